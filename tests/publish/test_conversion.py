"""Released folders become folders of today, with the logits that the original code gave."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.commands.convert import main
from codeshell_hf.publish import folder as folders
from codeshell_hf.publish.folder import LoadResult, load_without_package, probe
from tests.conftest import DATA
from tests.publish.test_four_bits import pack

GOLDEN = DATA / "golden"


@pytest.fixture
def loads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are loaded in this process: other tests here start a new one."""

    def load(folder: Path, samples: object = ()) -> LoadResult:
        return LoadResult([], probe(CodeShellForCausalLM.from_pretrained(folder)), [], [])

    monkeypatch.setattr(folders, "load_without_package", load)


@pytest.mark.parametrize("process", ["this", pytest.param("a new one", marks=pytest.mark.slow)])
def test_converted_folder_gives_the_logits_of_the_original_code(
    released: Path, tmp_path: Path, request: pytest.FixtureRequest, process: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if process == "this":
        request.getfixturevalue("loads_here")

    assert main([str(released), str(tmp_path / "new")]) == 0

    printed = capsys.readouterr().out
    golden = load_file(GOLDEN / "plain" / "golden.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype=torch.float32)
    with torch.no_grad():
        logits = model(golden["input_ids"], attention_mask=golden["attention_mask"]).logits
    seen = golden["attention_mask"].bool()
    assert float((logits - golden["logits"])[seen].abs().max()) < 1e-5
    assert "logits before and after differ by 0.0e+00; loads without codeshell_hf" in printed
    assert "some mirrors have wrong pickled weights" in printed
    assert "dropout" in printed
    files = {path.name for path in (tmp_path / "new").iterdir()}
    assert "model.safetensors" in files
    assert not any(name.endswith(".bin") for name in files)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["model_type"] == "codeshell"
    assert config["tie_word_embeddings"] is True
    assert "AutoModel" in config["auto_map"]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_converted_tokenizer_splits_digits_and_knows_the_chat_format(released: Path, tmp_path: Path) -> None:
    assert main([str(released), str(tmp_path / "new"), "--dtype", "bfloat16"]) == 0

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert tokenizer.tokenize("x = 2024")[-4:] == ["2", "0", "2", "4"]
    assert tokenizer.decode(tokenizer.encode_text("a , b !")) == "a , b !"
    turns = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).endswith("## assistant:")
    assert load_without_package(tmp_path / "new").modules == ["transformers_modules"]
    assert {value.dtype for value in load_file(tmp_path / "new" / "model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.usefixtures("loads_here")
@pytest.mark.parametrize("held", ["lm_head.weight", "transformer.wte.weight", "both"])
def test_tied_weights_come_out_tied_whichever_is_there(released: Path, tmp_path: Path, held: str) -> None:
    state = torch.load(released / "pytorch_model.bin", weights_only=True)
    shared = state["transformer.wte.weight"]
    state = {name: value for name, value in state.items() if name not in ("lm_head.weight", "transformer.wte.weight")}
    names = ["lm_head.weight", "transformer.wte.weight"] if held == "both" else [held]
    (released / "pytorch_model.bin").unlink()
    # As in the release: the index names both, whichever the file holds.
    save_file(state | {name: shared.clone() for name in names}, released / "shard-1.safetensors", {"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys([*state, "lm_head.weight", "transformer.wte.weight"], "shard-1.safetensors"),
    }
    (released / "model.safetensors.index.json").write_text(json.dumps(index))

    assert main([str(released), str(tmp_path / "new")]) == 0

    model = CodeShellForCausalLM.from_pretrained(tmp_path / "new")
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.equal(model.lm_head.weight, shared)


@pytest.mark.usefixtures("loads_here")
def test_four_bit_release_is_dequantised(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = torch.load(released / "pytorch_model.bin", weights_only=True)
    state: dict[str, Any] = {}
    expected = {}
    for name, value in plain.items():
        if name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight")):
            data, quant_state, expected[name] = pack(value, "nf4", is_nested=False)
            state |= {f"{name}.data": data, f"{name}.quant_state": quant_state}
        else:
            state[name] = value
    torch.save(state, released / "pytorch_model.bin")

    assert main([str(released), str(tmp_path / "new"), "--dtype", "float32"]) == 0

    assert "4-bit, dequantised" in capsys.readouterr().out
    model = CodeShellForCausalLM.from_pretrained(tmp_path / "new")
    weights = model.state_dict()
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
    assert torch.equal(weights["transformer.wte.weight"], plain["transformer.wte.weight"])


class Evil:
    """A pickle that runs something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("stolen",))


def test_pickles_that_would_run_something_are_refused(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"transformer.wte.weight": torch.ones(1), "x": Evil()}, released / "pytorch_model.bin")
        assert main([str(released), "new"]) == 2
        error = capsys.readouterr().err
        assert "cannot be read" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "stolen").exists()
    assert not (tmp_path / "new").exists()


def test_wrong_calls_are_one_line_and_write_nothing(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    torn = tmp_path / "torn"
    shutil.copytree(released, torn)
    (torn / "pytorch_model.bin").write_bytes((released / "pytorch_model.bin").read_bytes()[:5000])
    lacking = tmp_path / "lacking"
    shutil.copytree(released, lacking)
    state = torch.load(released / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: value for name, value in state.items() if "h.1.mlp.c_fc" not in name}, lacking / "pytorch_model.bin"
    )
    for source, output, message in (
        (released, "there", "exists already"),
        (hollow, "new", "holds neither model.safetensors nor pytorch_model.bin"),
        (torn, "new", "cannot be read"),
        (lacking, "new", "lacks transformer.h.1.mlp.c_fc"),
        (tmp_path / "nowhere", "new", "nowhere does not exist; name a folder"),
    ):
        capsys.readouterr()
        assert main([str(source), str(tmp_path / output)]) == 2, message
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1]
        assert "Traceback" not in error
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("*.partial"))
