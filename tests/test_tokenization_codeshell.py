"""The tokenizer: digits, special tokens, fill-in-the-middle and the chat format."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Tokenizer

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS

CONVERSATION = [
    {"role": "user", "content": "写一个函数"},
    {"role": "assistant", "content": "def f(): pass"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "def g(): pass"},
]


def save_as_released(tokenizer: CodeShellTokenizer, folder: Path, model_type: str | None) -> None:
    """Writes a folder as the release has it: the class named is GPT-2's, and there is no chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "additional_special_tokens": list(SPECIAL_TOKENS),
        **{f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk", "pad")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": len(tokenizer)}))


def test_special_tokens_are_the_last_of_the_vocabulary(tiny_tokenizer: CodeShellTokenizer) -> None:
    ids = tiny_tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))

    assert ids == list(range(len(tiny_tokenizer) - 20, len(tiny_tokenizer)))
    assert tiny_tokenizer.eos_token_id == ids[0]


@pytest.mark.parametrize("model_type", ["codeshell", "kclgpt", None])
def test_released_folder_keeps_its_digits_step(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, model_type: str | None
) -> None:
    """`None` is the folder of an adapter, which has no `config.json`."""
    save_as_released(tiny_tokenizer, tmp_path, model_type)
    text = "x =    2\ny =        12345"

    ours, auto = CodeShellTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)

    expected = tiny_tokenizer.backend_tokenizer.encode(text).ids
    assert isinstance(auto, CodeShellTokenizer)
    assert ours(text)["input_ids"] == auto(text)["input_ids"] == expected
    assert GPT2Tokenizer.from_pretrained(tmp_path)(text)["input_ids"] != expected  # the trap is still there
    auto.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] == "CodeShellTokenizer"
    assert saved["clean_up_tokenization_spaces"] is False
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(text)["input_ids"] == expected
    assert again.chat_template == ours.chat_template


STRANGER = """
import sys
sys.modules["codeshell_hf"] = None
from transformers import AutoTokenizer
print(AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)(sys.argv[2])["input_ids"])
"""


def test_an_adapters_tokenizer_keeps_its_digits_step_without_this_package(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "adapter")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}

    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(tmp_path / "adapter"), "y =        12345"],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip

    assert done.stdout.strip() == str(tiny_tokenizer.backend_tokenizer.encode("y =        12345").ids), done.stderr


def test_other_tokenizers_of_gpt2s_class_stay_what_they_are(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    save_as_released(tiny_tokenizer, tmp_path, None)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["additional_special_tokens"] = list(SPECIAL_TOKENS[:-1])  # StarCoder's
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    assert type(AutoTokenizer.from_pretrained(tmp_path)) is GPT2Tokenizer


def test_every_byte_and_control_character_survives(tiny_tokenizer: CodeShellTokenizer) -> None:
    text = "".join(map(chr, range(0x300))) + "中文\U0001f600\f\v\x00"

    assert tiny_tokenizer.decode(tiny_tokenizer.encode_text(text)) == text


def test_literal_special_tokens_in_documents_stay_text(tiny_tokenizer: CodeShellTokenizer) -> None:
    text = "print('<fim_prefix>')  # <|endoftext|>"

    ids = tiny_tokenizer.encode_text(text)

    assert max(ids) < len(tiny_tokenizer) - 20
    assert tiny_tokenizer.decode(ids) == text


def test_infilling_prompts_have_their_parts_in_order(tiny_tokenizer: CodeShellTokenizer) -> None:
    prefix, middle, suffix = tiny_tokenizer.convert_tokens_to_ids(["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
    before, after = tiny_tokenizer.encode_text("a = <fim_suffix>"), tiny_tokenizer.encode_text(" + 1\n")

    psm = tiny_tokenizer.encode_infilling("a = <fim_suffix>", " + 1\n")
    spm = tiny_tokenizer.encode_infilling("a = <fim_suffix>", " + 1\n", order="spm")

    assert psm == [prefix, *before, suffix, *after, middle]
    assert spm == [prefix, suffix, *after, middle, *before]
    with pytest.raises(ValueError, match="order is 'mps'; use 'psm' or 'spm'"):
        tiny_tokenizer.encode_infilling("", "", order="mps")


def test_chat_renders_as_released(tiny_tokenizer: CodeShellTokenizer) -> None:
    text = tiny_tokenizer.apply_chat_template(CONVERSATION[:3], tokenize=False, add_generation_prompt=True)

    assert text == "## human:写一个函数|<end>|## assistant: def f(): pass|<end>|## human:again|<end>|## assistant:"


def test_chat_is_prefix_preserving(tiny_tokenizer: CodeShellTokenizer) -> None:
    whole = tiny_tokenizer.apply_chat_template(CONVERSATION, tokenize=False)

    for turns in range(1, len(CONVERSATION)):
        asks = CONVERSATION[turns - 1]["role"] == "user"
        part = tiny_tokenizer.apply_chat_template(CONVERSATION[:turns], tokenize=False, add_generation_prompt=asks)
        assert whole.startswith(part)


def test_chat_marks_the_answers_and_their_stops_alone(tiny_tokenizer: CodeShellTokenizer) -> None:
    encoded = tiny_tokenizer.apply_chat_template(
        CONVERSATION, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )

    marked = [i for i, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tiny_tokenizer.decode(marked) == " def f(): pass|<end>| def g(): pass|<end>|"


def test_chat_refuses_roles_it_does_not_know(tiny_tokenizer: CodeShellTokenizer) -> None:
    with pytest.raises(Exception, match="role is system, but the CodeShell chat format knows user and assistant"):
        tiny_tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)


def test_generation_stops_at_the_end_of_a_turn(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    ids = tiny_tokenizer.encode_text("ab|<end>|cd|<end>|ef")
    script = iter([*ids, *ids])

    class Scripted(torch.nn.Module):
        """Speaks its lines whatever it is asked: the stop alone is under test."""

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(1, 1, len(tiny_tokenizer))
            logits[..., next(script)] = 1.0
            return logits

    model.lm_head = Scripted()
    prompt = torch.tensor([tiny_tokenizer.encode_text("x")])

    generated = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=len(ids),
        do_sample=False,
        stop_strings=tiny_tokenizer.stop_strings,
        tokenizer=tiny_tokenizer,
    )

    assert tiny_tokenizer.decode(generated[0, 1:]) == "ab|<end>|"


@pytest.mark.shared
def test_released_tokenizer_itself(tmp_path: Path) -> None:
    from tests.conftest import SHARED

    folder = SHARED / "tokenizers" / "codeshell"
    if not folder.exists():
        pytest.skip("the released tokenizer is not beside this checkout")
    tokenizer = CodeShellTokenizer.from_pretrained(folder)

    assert len(tokenizer) == 70020
    assert tokenizer.tokenize("    2") == ["ĠĠĠĠ", "2"]
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(70000, 70020))
    assert tokenizer.encode_infilling("a", "b")[0] == 70001
