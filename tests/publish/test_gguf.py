"""GGUF: what is written is what the model computes, in llama.cpp too where it is installed."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.commands.gguf import LLAMA_TYPES as COMMAND_LLAMA
from codeshell_hf.commands.gguf import TYPES as COMMAND_TYPES
from codeshell_hf.commands.gguf import main
from codeshell_hf.errors import CheckpointError, DataError, SettingsError
from codeshell_hf.publish.folder import save_folder
from codeshell_hf.publish.gguf import LLAMA_TYPES, TYPES, export_gguf, rename
from codeshell_hf.text.pre_tokenizers import SplitName
from tests.conftest import DATA, TEXTS
from tokenizer.bpe import train_across_words, train_bpe

TEXT = "def area(r):\n    return 3.14 * r ** 2  # 面积 12345 café ½\n\n\n\tclass A:\n        x = 'don''t'\n"
SHAPES: dict[str, dict[str, object]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "another MLP width": {"n_inner": 96},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}},
    "positions divided": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}},
    "more rows than entries": {"vocab_size": 384},
}
MakeFolder = Callable[..., tuple[Path, CodeShellForCausalLM]]
requires_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="pip install llama-cpp-python compiles for ten minutes"
)


@pytest.fixture
def make_folder(
    tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> MakeFolder:
    def make(**changes: object) -> tuple[Path, CodeShellForCausalLM]:
        end = tiny_tokenizer.eos_token_id
        model = tiny_model(**{"eos_token_id": end, "bos_token_id": end, "pad_token_id": end} | changes)
        save_folder(model, tiny_tokenizer, tmp_path / "model")
        return tmp_path / "model", model

    return make


def read_back(path: Path, like: CodeShellForCausalLM) -> CodeShellForCausalLM:
    """Builds a model from the tensors of a GGUF file alone."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    model: CodeShellForCausalLM = CodeShellForCausalLM(like.config).eval()
    state = model.state_dict()
    for name in state:
        tensor = tensors.pop(rename(name))
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        state[name] = torch.from_numpy(np.array(values, dtype=np.float32)).reshape(state[name].shape)
    assert tensors == {}
    model.load_state_dict(state)
    return model


@torch.no_grad()
def logits(model: CodeShellForCausalLM, ids: list[int]) -> np.ndarray[Any, Any]:
    row: np.ndarray[Any, Any] = model(torch.tensor([ids])).logits[0].numpy()
    return row


@pytest.mark.parametrize(
    ("shape", "kind", "tolerance"),
    [
        ("tied", "f32", 0),
        ("untied", "f16", 2e-3),
        ("tied", "bf16", 2e-2),
        ("more rows than entries", "q8_0", 2e-2),
        ("untied", "q4_0", 0.126),  # an eighth of a block's largest weight
        pytest.param("untied", "f32", 0, marks=pytest.mark.slow),
        pytest.param("more rows than entries", "f16", 2e-3, marks=pytest.mark.slow),
        pytest.param("untied", "q8_0", 2e-2, marks=pytest.mark.slow),
    ],
)
def test_file_holds_the_weights_of_the_model(
    make_folder: MakeFolder, tmp_path: Path, shape: str, kind: str, tolerance: float
) -> None:
    folder, model = make_folder(**SHAPES[shape])

    counts = export_gguf(folder, tmp_path / "m.gguf", kind)

    again = read_back(tmp_path / "m.gguf", model)
    scale = max(float(parameter.detach().abs().max()) for parameter in model.parameters())
    for name, parameter in again.state_dict().items():
        assert float((parameter - model.state_dict()[name]).abs().max()) <= tolerance * scale, name
    assert counts["bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert not list(tmp_path.glob("*.partial"))


def test_four_bits_are_those_of_the_format_and_spare_the_embedding(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Against the definition of Q4_0 in plain loops: a scale of the largest weight by -8, and codes around 8."""
    folder, model = make_folder()
    counts = export_gguf(folder, tmp_path / "m.gguf", "q4_0")
    whole = export_gguf(folder, tmp_path / "f16.gguf", "f16")

    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert {kinds[name] for name in ("token_embd.weight", "output.weight")} == {"Q8_0"}
    assert {kind for name, kind in kinds.items() if name.endswith(("qkv.weight", "ffn_up.weight"))} == {"Q4_0"}
    assert {kind for name, kind in kinds.items() if name.endswith(("bias", "norm.weight"))} == {"F32"}
    assert reader.fields["general.file_type"].contents() == 2, "llama.cpp's number of mostly Q4_0"
    assert counts["bytes"] < 0.6 * whole["bytes"]
    weights = model.state_dict()["transformer.h.0.attn.c_attn.weight"].numpy()
    stored = tensors["blk.0.attn_qkv.weight"].data
    for row, packed in zip(weights[:4], stored[:4], strict=True):
        block = row[:32].astype(np.float32)
        largest = block[np.abs(block).argmax()]
        assert packed[:2].view(np.float16)[0] == np.float16(largest / -8)
        for place, byte in enumerate(packed[2:18]):
            for value, code in ((block[place], byte & 15), (block[place + 16], byte >> 4)):
                assert abs(largest / -8 * (int(code) - 8) - value) <= abs(largest) / 16 * 1.01 or code == 15


def test_other_types_are_made_by_llama_cpps_program(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = make_folder()
    program, target = tmp_path / "bin" / "llama-quantize", tmp_path / "m.gguf"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent))
    assert main([str(folder), str(target), "--type", "q4_k_m"]) == 2
    assert "not on the PATH; install it, or use q4_0" in capsys.readouterr().err

    def install(script: str) -> None:
        program.write_text(f"#!{sys.executable}\nimport sys, pathlib\n{script}\n")
        program.chmod(0o755)

    install("sys.exit('cannot quantize')")
    assert main([str(folder), str(target), "--type", "q4_k_m"]) == 1
    assert "llama-quantize failed with 1 (cannot quantize)" in capsys.readouterr().err
    assert not list(tmp_path.glob("m.gguf*"))
    install("_, whole, part, kind = sys.argv\n"
            "pathlib.Path(part).write_text(kind + pathlib.Path(whole).read_bytes()[:4].decode())")  # fmt: skip
    assert main([str(folder), str(target), "--type", "q4_k_m"]) == 0
    assert target.read_text() == "Q4_K_MGGUF"
    assert [path.name for path in tmp_path.glob("m.gguf*")] == ["m.gguf"]
    assert set(COMMAND_TYPES) == set(TYPES)
    assert set(COMMAND_LLAMA) == set(LLAMA_TYPES)


def test_file_names_the_split_of_its_tokenizer(tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path) -> None:
    names: dict[SplitName, str] = {"starcoder": "codeshell", "gpt4": "qwen2"}
    for split, name in names.items():
        tokenizer = train_bpe(TEXTS, vocab_size=320, split=split)
        save_folder(tiny_model(), tokenizer, tmp_path / split)

        export_gguf(tmp_path / split, tmp_path / f"{split}.gguf", "f16")

        read = gguf.GGUFReader(tmp_path / f"{split}.gguf").fields
        assert read["tokenizer.ggml.pre"].contents() == name
        assert read["tokenizer.ggml.padding_token_id"].contents() == tokenizer.convert_tokens_to_ids("<fim_pad>")
    across = train_across_words(lambda stage: TEXTS * 5, vocab_size=320, across=10, split="gpt4")
    save_folder(tiny_model(), across, tmp_path / "across")
    with pytest.raises(DataError, match="this tokenizer splits text differently"):
        export_gguf(tmp_path / "across", tmp_path / "across.gguf", "f16")


def test_file_holds_the_tokenizer_and_what_the_graph_needs(
    make_folder: MakeFolder, tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    folder, model = make_folder(vocab_size=384, n_inner=96)
    export_gguf(folder, tmp_path / "m.gguf", "f16", name="tiny")

    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    read = {name: field.contents() for name, field in fields.items()}

    assert read["general.architecture"] == "codeshell"
    assert read["general.name"] == "tiny"
    assert read["tokenizer.ggml.pre"] == "codeshell"
    assert len(read["tokenizer.ggml.tokens"]) == 384
    texts = {text: number for number, text in enumerate(read["tokenizer.ggml.tokens"])}
    assert all(texts[text] == number for text, number in tiny_tokenizer.get_vocab().items())
    kinds = read["tokenizer.ggml.token_type"]
    assert {kinds[number] for number in tiny_tokenizer.added_tokens_decoder} == {gguf.TokenType.CONTROL}
    assert kinds[-1] == gguf.TokenType.UNUSED
    assert read["tokenizer.ggml.fim_mid_token_id"] == tiny_tokenizer.convert_tokens_to_ids("<fim_middle>")
    assert read["tokenizer.ggml.eos_token_id"] == tiny_tokenizer.eos_token_id
    assert read["codeshell.feed_forward_length"] == 96
    assert read["codeshell.attention.head_count_kv"] == model.config.num_query_groups
    assert "generation %}" not in read["tokenizer.chat_template"].replace("add_generation_prompt", "")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    ours = tiny_tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    theirs = tiny_tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, chat_template=read["tokenizer.chat_template"]
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "swiglu"}, r"'swiglu', llama.cpp has GELU, so its answers would differ"),
        ({"sliding_window": 8}, r"sliding window, llama.cpp attends to everything"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}},
            r"rope_type is 'dynamic', llama.cpp has 'default' and 'linear'",
        ),
        ({"vocab_size": 300}, r"tokenizer has 320 entries, the model 300 rows"),
    ],
)
def test_what_llama_cpp_would_get_wrong_is_refused(
    make_folder: MakeFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    message: str,
) -> None:
    folder, _ = make_folder(**changes)

    with pytest.raises((CheckpointError, DataError), match=message):
        export_gguf(folder, tmp_path / "m.gguf", "f16")
    capsys.readouterr()
    assert main([str(folder), str(tmp_path / "m.gguf")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("m.gguf*"))


def test_other_splits_of_text_are_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    folder, _ = make_folder()
    tokenizer = CodeShellTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save_pretrained(folder)

    with pytest.raises(DataError, match="splits text differently"):
        export_gguf(folder, tmp_path / "m.gguf", "f16")


def test_wrong_calls_are_one_line(make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = make_folder()
    with pytest.raises(SettingsError, match="q8"):
        export_gguf(folder, tmp_path / "m.gguf", "q8")
    (folder / "model.safetensors").unlink()
    capsys.readouterr()
    for place, message in (
        (folder, "holds neither model.safetensors nor"),
        (tmp_path / "none", "does not exist; name a folder"),
    ):
        assert main([str(place), str(tmp_path / "m.gguf")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_released_layout_is_exported_as_it_is(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    """`pytorch_model.bin`, type `kclgpt` or `codeshell`, buffers of rotary positions among the weights."""
    folder = tmp_path / "old"
    folder.mkdir()
    for path in (DATA / "golden" / "rope-linear").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model = CodeShellForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    train_bpe(iter(TEXTS * 20), vocab_size=model.config.vocab_size).save_pretrained(folder)

    export_gguf(folder, tmp_path / "m.gguf", "f32")

    ids = list(range(20))
    assert np.array_equal(logits(read_back(tmp_path / "m.gguf", model), ids), logits(model, ids))


LLAMA = """
import sys
import numpy as np
from llama_cpp import Llama
model = Llama(sys.argv[1], logits_all=True, n_ctx=128, verbose=False, type_k=0, type_v=0, flash_attn=False, n_threads=1)
ids = model.tokenize(sys.argv[2].encode(), add_bos=False, special=False)
model.eval(ids)
np.savez(sys.argv[3], ids=ids, logits=np.array(model.scores[: len(ids)]))
"""


@requires_llama
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kind", "tolerance", "agreement"), [("f32", 1e-2, 1.0), ("f16", 3e-2, 0.95), ("q8_0", 0.5, 0.8)]
)
def test_llama_cpp_computes_what_the_model_does(
    make_folder: MakeFolder, tmp_path: Path, shape: str, kind: str, tolerance: float, agreement: float
) -> None:
    folder, model = make_folder(**SHAPES[shape])
    export_gguf(folder, tmp_path / "m.gguf", kind)

    # In a process of its own: llama.cpp ends the one that it does not like.
    done = subprocess.run(
        [sys.executable, "-c", LLAMA, str(tmp_path / "m.gguf"), TEXT[:48], str(tmp_path / "out.npz")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    answer = np.load(tmp_path / "out.npz")
    ids = CodeShellTokenizer.from_pretrained(folder).encode_text(TEXT[:48])
    assert answer["ids"].tolist() == ids
    expected = logits(model, ids)
    assert np.abs(answer["logits"] - expected).max() < tolerance
    assert (answer["logits"].argmax(-1) == expected.argmax(-1)).mean() >= agreement
