"""A published folder loads where this package is not installed, with the same weights and logits."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import codeshell_hf
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError, RunFailed
from codeshell_hf.publish import folder as folders
from codeshell_hf.publish.folder import LoadResult, find_changed_weights, load_without_package, probe, verify_folder
from codeshell_hf.publish.settings import PromptSettings
from tests.hub import serve_hub, visit_hub

Published = tuple[Path, CodeShellForCausalLM]


def test_a_folder_loads_without_the_package_and_gives_the_same_logits(published: Published) -> None:
    folder, model = published
    requests = [
        PromptSettings(kind="completion", prompt="def area(", max_new_tokens=4),
        PromptSettings(kind="chat", prompt="写一个函数", max_new_tokens=4),
    ]

    answer = load_without_package(folder, requests)

    assert answer.modules == ["transformers_modules"]
    assert answer.probe == pytest.approx(probe(model), abs=1e-5)
    assert len(answer.texts) == 2


@pytest.mark.slow
def test_every_auto_class_of_the_map_loads_without_the_package(published: Published, tmp_path: Path) -> None:
    folder, _ = published
    script = (
        "import sys; sys.modules['codeshell_hf'] = None\n"
        "import json, transformers\n"
        "config = json.load(open(sys.argv[1] + '/config.json'))\n"
        "for name, reference in config['auto_map'].items():\n"
        "    thing = getattr(transformers, name).from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "    assert type(thing).__name__ == reference.split('.')[1], (name, type(thing))\n"
        "    assert type(thing).__module__.startswith('transformers_modules'), type(thing).__module__\n"
        "tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "assert tokenizer.tokenize('a    12') and tokenizer.encode_infilling('a', 'b')\n"
        "print('LOADED', len(config['auto_map']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""},
    )

    assert "LOADED 6" in done.stdout, done.stderr


def test_the_installed_package_wins_over_the_code_in_the_folder(published: Published) -> None:
    folder, _ = published

    for trust in (None, True):
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
        assert type(model).__module__ == "codeshell_hf.modeling_codeshell"
    assert AutoTokenizer.from_pretrained(folder)("    2")["input_ids"]


def test_the_files_that_travel_import_nothing_of_the_package() -> None:
    source = Path(codeshell_hf.__file__).parent
    names = {"configuration_codeshell", "modeling_codeshell", "tokenization_codeshell"}
    for name in names:
        for line in (source / f"{name}.py").read_text().splitlines():
            if line.startswith(("import ", "from ")):
                target = line.split()[1]
                assert "codeshell_hf" not in target
                assert not target.startswith(".") or target[1:] in names


@pytest.mark.slow
def test_what_save_pretrained_writes_loads_without_the_package(
    tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")

    answer = load_without_package(tmp_path / "model")

    assert answer.modules == ["transformers_modules"]
    assert answer.probe == pytest.approx(probe(model), abs=1e-5)


@pytest.mark.slow
def test_what_was_saved_without_the_package_loads_without_it(published: Published, tmp_path: Path) -> None:
    folder, model = published
    script = (
        "import sys; sys.modules['codeshell_hf'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "for thing in (AutoModelForCausalLM, AutoTokenizer):\n"
        "    thing.from_pretrained(sys.argv[1], trust_remote_code=True).save_pretrained(sys.argv[2])\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "second")],
        check=True, capture_output=True, env={**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""},
    )  # fmt: skip

    answer = load_without_package(tmp_path / "second")

    assert answer.modules == ["transformers_modules"]
    assert answer.probe == pytest.approx(probe(model), abs=1e-5)


@pytest.mark.parametrize("shift", [5e-5, 2e-4])
def test_a_folder_whose_logits_differ_is_refused(
    published: Published, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    folder, model = published
    values = probe(model)
    values[7] -= shift
    monkeypatch.setattr(folders, "load_without_package", lambda folder, samples: LoadResult([], values, [], []))

    if shift < folders.MAX_DIFFERENCE:
        assert verify_folder(model, folder)[1] == pytest.approx(shift, rel=1e-3)
    else:
        with pytest.raises(RunFailed, match=r"logits of .* differ from its model's by 2\.00e-04"):
            verify_folder(model, folder)


def test_a_folder_with_other_weights_is_refused_before_it_is_loaded(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model = published
    monkeypatch.setattr(folders, "load_without_package", lambda folder, samples: pytest.fail("loaded"))
    with torch.no_grad():
        model.transformer.ln_f.bias[0] += 1e-6

    with pytest.raises(RunFailed, match=r"transformer\.ln_f\.bias in .* differs from what was saved"):
        verify_folder(model, folder)


def test_weights_that_differ_on_disk_are_found(published: Published) -> None:
    folder, model = published
    assert find_changed_weights(model, folder) is None

    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.bias"][3] += 1e-6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert find_changed_weights(model, folder) == "transformer.h.1.mlp.c_fc.bias"
    del weights["transformer.h.1.mlp.c_fc.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert find_changed_weights(model, folder) == "transformer.h.1.mlp.c_fc.bias"


@pytest.mark.slow
def test_a_broken_folder_is_one_clear_error(published: Published) -> None:
    folder, _ = published
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(CheckpointError, match="does not load without this package"):
        load_without_package(folder)


@pytest.mark.slow
def test_pushing_while_saving_brings_the_code_along(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from transformers import AutoModelForCausalLM\n"
        "import codeshell_hf\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "model.save_pretrained(sys.argv[2], push_to_hub=True, repo_id='me/direct', private=True)\n"
    )
    golden = Path(__file__).parents[1] / "data" / "golden" / "plain"
    with serve_hub() as (hub, address):
        done = subprocess.run(
            [sys.executable, "-c", script, str(golden), str(tmp_path / "saved")],
            capture_output=True, text=True, check=False, timeout=120, env=visit_hub(address, tmp_path / "home"),
        )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert hub.private == {"me/direct": True}
    assert {"modeling_codeshell.py", "configuration_codeshell.py", "model.safetensors"} <= set(
        hub.repositories["me/direct"]
    )


def test_saved_config_carries_the_whole_map(published: Published) -> None:
    folder, _ = published
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())

    assert set(config["auto_map"]) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
    }
    assert tokenizer["auto_map"] == {"AutoTokenizer": ["tokenization_codeshell.CodeShellTokenizer", None]}
    assert not any("--" in reference for reference in config["auto_map"].values())
