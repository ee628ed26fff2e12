"""What ran with the original repository runs unchanged: `chat`, streams, infilling by literal text, 4-bit releases."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.modeling_codeshell import CodeShell4bitForCausalLM, FourBitLinear, StopAtTexts
from tests.conftest import DATA
from tests.test_tokenization_codeshell import save_as_released

HISTORY = [("你是谁?", "CodeShell"), ("add", "return a + b")]
BLOCK = 64
QUANTISED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
# What the README of the original repository runs, in its order; NAME is the model's.
GENERATION = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
device = 'cuda' if torch.cuda.is_available() else 'cpu'
tokenizer = AutoTokenizer.from_pretrained("NAME")
model = AutoModelForCausalLM.from_pretrained("NAME", trust_remote_code=True, torch_dtype=torch.bfloat16).to(device)
inputs = tokenizer('def merge_sort():', return_tensors='pt').to(device)
outputs = model.generate(**inputs)
print(tokenizer.decode(outputs[0]))
input_text = "<fim_prefix>def print_hello_world():\\n    <fim_suffix>\\n    print('Hello world!')<fim_middle>"
inputs = tokenizer(input_text, return_tensors='pt').to(device)
specials = tokenizer.convert_tokens_to_ids(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
assert set(specials) <= set(inputs["input_ids"][0].tolist())
outputs = model.generate(**inputs)
print(tokenizer.decode(outputs[0]))
"""
CHAT = """
history = []
for query in ('你是谁?', '用Python写一个HTTP server'):
    response = model.chat(query, history, tokenizer)
    print(response)
    history.append((query, response))
for response in model.chat('hi', history, tokenizer, stream=True, generation_config=model.generation_config):
    assert isinstance(response, str)
"""
FOUR_BITS = """
model = AutoModelForCausalLM.from_pretrained('NAME-int4', trust_remote_code=True).to(device)
tokenizer = AutoTokenizer.from_pretrained('NAME-int4')
assert type(model).__name__ == "CodeShell4bitForCausalLM"
print("ANSWER", repr(model.chat('hi', [], tokenizer)))
"""


def write_prompt(query: str, history: list[tuple[str, str]]) -> str:
    """The original's prompt, by hand."""
    text = ""
    for question, answer in history:
        text += "## human:" + question + "|<end>|" + "## assistant: " + answer + "|<end>|"
    return text + "## human:" + query + "|<end>|" + "## assistant:"


def quantize_by_hand(matrix: torch.Tensor) -> tuple[torch.Tensor, list[Any], torch.Tensor]:
    """Codes and state as the release has them, and the values that they stand for; plain arithmetic, no library."""
    table = torch.linspace(-1, 1, 16)
    flat = torch.zeros(-(-matrix.numel() // BLOCK) * BLOCK)
    flat[: matrix.numel()] = matrix.float().flatten()
    blocks = flat.view(-1, BLOCK)
    absmax = blocks.abs().amax(1).clamp(min=1e-8)
    numbers = (blocks / absmax[:, None])[..., None].sub(table).abs().argmin(-1)
    values = (table[numbers] * absmax[:, None]).flatten()[: matrix.numel()].view(matrix.shape)
    pairs = numbers.flatten().view(-1, 2)
    codes = (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)[:, None]
    return codes, [absmax, matrix.shape, matrix.dtype, BLOCK, None, "nf4", table], values.to(matrix.dtype)


@pytest.fixture
def four_bits(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder as `...-Chat-int4` was released, and the weights that its codes stand for."""
    folder = tmp_path / "WisdomShell" / "CodeShell-7B-Chat-int4"
    save_as_released(tiny_tokenizer, folder, None)
    config = json.loads((DATA / "golden" / "plain" / "config.json").read_text())
    config |= {"model_type": "kclgpt", "architectures": ["CodeShell4bitForCausalLM"], "torch_dtype": "bfloat16"}
    config["auto_map"]["AutoModelForCausalLM"] = "modeling_codeshell.CodeShell4bitForCausalLM"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 9, "eos_token_id": 300}))
    entries: dict[str, Any] = {}
    weights = {}
    for name, value in torch.load(DATA / "golden" / "plain" / "pytorch_model.bin", weights_only=True).items():
        weights[name] = value
        if name.endswith(QUANTISED):
            entries[f"{name}.data"], entries[f"{name}.quant_state"], weights[name] = quantize_by_hand(value)
        else:
            entries[name] = value
    torch.save(entries, folder / "pytorch_model.bin")
    return folder, weights


@pytest.fixture
def taught(learnt_by_heart: Path) -> tuple[CodeShellForCausalLM, CodeShellTokenizer]:
    model = CodeShellForCausalLM.from_pretrained(learnt_by_heart)
    model.generation_config.max_new_tokens = 24
    return model, CodeShellTokenizer.from_pretrained(learnt_by_heart)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_prompts_of_chat_are_the_original_ones_token_by_token(
    turns: int, taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]
) -> None:
    model, tokenizer = taught
    query, history = "用Python写一个HTTP server", HISTORY[:turns]

    ids = model.build_chat_input(query, history, tokenizer, 1)

    whole = tokenizer.encode(write_prompt(query, history))
    assert ids.tolist() == [whole[-(model.config.n_positions - 1) :]]
    # Cut on the left to what the answer leaves: 24 tokens, as the generation config says, or else 128.
    long = "x = 1\n" * 60
    assert (
        model.build_chat_input(long, history, tokenizer)[0].tolist()
        == tokenizer.encode(write_prompt(long, history))[-(160 - 24) :]
    )
    model.generation_config.max_new_tokens = None
    assert model.build_chat_input(long, history, tokenizer).shape == (1, 160 - 128)
    with pytest.raises(ValueError, match="max_new_tokens is 160, which leaves nothing of 160 positions"):
        model.build_chat_input(query, history, tokenizer, 160)


def test_special_tokens_that_a_person_writes_stay_text(taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]) -> None:
    model, tokenizer = taught

    ids = model.build_chat_input("a<|endoftext|>b", [("<fim_prefix>", "<|end|>")], tokenizer, 8)[0].tolist()

    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids) == write_prompt("a<|endoftext|>b", [("<fim_prefix>", "<|end|>")])


def test_chat_answers_up_to_its_stop_and_streams_the_same_text(
    taught: tuple[CodeShellForCausalLM, CodeShellTokenizer],
) -> None:
    model, tokenizer = taught

    answers = {query: model.chat(query, [], tokenizer) for query in ("add", "面积")}
    streams = {query: list(model.chat(query, [], tokenizer, stream=True)) for query in answers}

    assert answers == {"add": " return a + b|<end>|", "面积": " 返回 r|<end>|"}
    for query, texts in streams.items():
        assert texts[-1] == answers[query]
        assert all(after.startswith(before) and after != before for before, after in pairwise(texts))
        assert not any("\ufffd" in text for text in texts)
    short = GenerationConfig(max_new_tokens=3, eos_token_id=tokenizer.eos_token_id)
    assert answers["add"].startswith(cut := model.chat("add", [], tokenizer, generation_config=short))
    assert 0 < len(cut) < len(answers["add"])


@pytest.mark.parametrize("stop", ["|<end>|", "|end|", "<|endoftext|>", "## human"])
def test_each_stop_of_the_original_stops(stop: str, tiny_tokenizer: CodeShellTokenizer) -> None:
    criterion = StopAtTexts(tiny_tokenizer, 2, ("|<end>|", "|end|", "<|endoftext|>", "## human"))
    prompt, ids = [5, 6], tiny_tokenizer.encode(f"x = 1 {stop}")

    found = [bool(criterion(torch.tensor([prompt + ids[:length]]), torch.empty(0))) for length in range(len(ids) + 1)]

    assert found == [*[False] * len(ids), True]


def test_a_stream_that_is_left_ends_its_generation_and_errors_reach_the_reader(
    taught: tuple[CodeShellForCausalLM, CodeShellTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = taught
    steps = 0
    forward = model.forward

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        time.sleep(0.02)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", count)
    stopping = [number for text, number in tokenizer.get_vocab().items() if "|" in text or "#" in text]
    config = GenerationConfig(max_new_tokens=60, eos_token_id=None, suppress_tokens=stopping)
    stream = model.generate_stream("x = 1\n", tokenizer, config)
    assert isinstance(stream, Generator)
    next(stream)
    stream.close()
    assert steps < 50, "of 60"

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.chat("add", [], tokenizer, stream=True))


def test_special_tokens_of_a_streamed_prompt_are_live(taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]) -> None:
    model, tokenizer = taught
    prompt = "<fim_prefix>def area(r):\n    return <fim_suffix>\n<fim_middle>"

    texts = list(model.generate_stream(prompt, tokenizer, max_new_tokens=20))

    assert texts[-1].startswith("3.14 * r")


def test_a_release_in_four_bits_loads_by_from_pretrained_and_stays_in_four_bits(
    four_bits: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    folder, weights = four_bits

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

    assert isinstance(model, CodeShell4bitForCausalLM)
    assert not model.training
    assert model.generation_config.max_new_tokens == 9
    layers = [module for module in model.modules() if isinstance(module, FourBitLinear)]
    assert len(layers) == 4 * model.config.n_layer
    for name, value in weights.items():
        owner, _, attribute = name.rpartition(".")
        if attribute != "inv_freq":
            assert torch.equal(getattr(model.get_submodule(owner), attribute), value), name
    quantised = [value.numel() for name, value in weights.items() if name.endswith(QUANTISED)]
    assert sum(layer.codes.numel() for layer in layers) == sum(quantised) / 2, "two codes per byte"
    assert model.lm_head.weight is model.transformer.wte.weight


def test_four_bits_compute_what_their_values_do_in_any_dtype_and_are_saved_plain(
    four_bits: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    folder, weights = four_bits
    reference = CodeShellForCausalLM.from_pretrained(DATA / "golden" / "plain")
    reference.load_state_dict({key: value for key, value in weights.items() if "inv_freq" not in key}, strict=False)
    ids = torch.arange(40)[None] % 300
    with torch.no_grad():
        expected = reference(ids).logits

        for dtype, tolerance in ((None, 1e-5), (torch.bfloat16, 0.1)):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or "auto")
            assert (model(ids).logits.float() - expected).abs().max() < tolerance * expected.abs().max()
            assert model.dtype == (dtype or torch.float32)
        # Rounding the model leaves the scales as they are.
        layer = model.half().float().transformer.h[0].attn.c_attn
        assert torch.equal(layer.weight, weights["transformer.h.0.attn.c_attn.weight"])
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "plain")
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert type(saved) is CodeShellForCausalLM
    for name, value in saved.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_the_calls_of_the_original_demos_load(four_bits: tuple[Path, dict[str, torch.Tensor]], released: Path) -> None:
    """As its terminal, its page and its server write them."""
    for folder in (four_bits[0], released):
        given = {"trust_remote_code": True, "resume_download": True}
        tokenizer = AutoTokenizer.from_pretrained(folder, **given)
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", torch_dtype=torch.bfloat16, **given)
        assert model.eval().dtype == torch.bfloat16
        assert model.build_chat_input("hi", [], tokenizer, 8).shape[0] == 1
    assert GenerationConfig.from_pretrained(four_bits[0], **given).max_new_tokens == 9


class Evil:
    """A pickle that runs something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("stolen",))


def test_a_four_bit_pickle_never_runs_code_and_what_is_wrong_with_it_is_one_line(
    four_bits: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = four_bits
    monkeypatch.chdir(tmp_path)
    entries = torch.load(folder / "pytorch_model.bin", weights_only=True)
    key = "transformer.h.1.mlp.c_fc.weight"
    lacking = {name: value for name, value in entries.items() if name != "transformer.ln_f.bias"}
    state = entries[f"{key}.quant_state"]
    wrong: list[tuple[str, Any]] = [
        ("cannot be read", {**entries, "x": Evil()}),
        ("cannot be read", {**entries, f"{key}.quant_state": Evil()}),
        ("lacks transformer.ln_f.bias", lacking),
        ("are too few for", {**entries, f"{key}.data": entries[f"{key}.data"][:7]}),
        ("the configuration says", {**entries, f"{key}.quant_state": [state[0], torch.Size([3, 5]), *state[2:]]}),
        ("is not a state of bitsandbytes", {**entries, f"{key}.quant_state": "nf4"}),
        ("use nf4 or fp4", {**entries, f"{key}.quant_state": [*state[:5], "int3"]}),
        ("which the model lacks", {**entries, "transformer.h.9.x.weight.data": entries[f"{key}.data"]}),
        ("and not tensors by name", [1, 2]),
    ]
    for message, content in wrong:
        torch.save(content, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=message):
            AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert not (tmp_path / "stolen").exists()
    torch.save(entries, folder / "pytorch_model.bin")
    with pytest.raises(TypeError, match="quantization"):
        CodeShell4bitForCausalLM.from_pretrained(folder, quantization_config={})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["released", "ours"])
def test_snippets_of_the_original_readme_run_with_another_name(
    kind: str,
    tmp_path: Path,
    four_bits: tuple[Path, dict[str, torch.Tensor]],
    tiny_tokenizer: CodeShellTokenizer,
) -> None:
    """After `import codeshell_hf`, or from a folder of ours without it."""
    home = tmp_path / "WisdomShell" / "CodeShell-7B-Chat"
    save_as_released(tiny_tokenizer, home, None)
    config = json.loads((DATA / "golden" / "plain" / "config.json").read_text())
    (home / "config.json").write_text(json.dumps({**config, "model_type": "kclgpt"}))
    shutil.copy(DATA / "golden" / "plain" / "pytorch_model.bin", home)
    (home / "generation_config.json").write_text(json.dumps({"max_new_tokens": 8}))
    code = "import codeshell_hf\n" if kind == "released" else ""
    if kind == "ours":
        model, tokenizer = AutoModelForCausalLM.from_pretrained(home), AutoTokenizer.from_pretrained(home)
        shutil.rmtree(home)
        model.save_pretrained(home)
        tokenizer.save_pretrained(home)
        # The pickled layout, beside our files.
        for name in ("configuration_codeshell.py", "modeling_codeshell.py"):
            shutil.copy(home / name, four_bits[0])
        settings = json.loads((four_bits[0] / "config.json").read_text()) | {"model_type": "codeshell"}
        (four_bits[0] / "config.json").write_text(json.dumps(settings))
        tokenizer.save_pretrained(four_bits[0])
    code += (GENERATION + CHAT + FOUR_BITS).replace("NAME", "WisdomShell/CodeShell-7B-Chat")
    paths = {} if kind == "released" else {"PYTHONPATH": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), **paths},
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert "ANSWER" in done.stdout
