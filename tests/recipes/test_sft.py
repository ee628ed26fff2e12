"""Fine-tuning: what is learnt, packed rows, adapters, ranks."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from tests.recipes.toy_alignment import hold_no_training_state, read_output, run, sft_settings, write_lines
from tests.warm import start

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("alignment")


def test_the_held_out_loss_falls_and_every_weight_moves(aligned: Path) -> None:
    """A fresh model starts near ln V, the entropy of a uniform guess."""
    measures = read_output(aligned / "sft").measures
    before = load_file(aligned / "base" / "model.safetensors")
    after = load_file(aligned / "sft" / "model" / "model.safetensors")

    assert measures["held_out_loss_before"] == pytest.approx(math.log(len(before["transformer.wte.weight"])), abs=0.3)
    assert measures["held_out_loss_after"] < measures["held_out_loss_before"] / 2
    assert measures["held_out_change"]["high"] < 0
    assert [key for key in before if torch.equal(before[key], after[key])] == []


def test_packed_rows_give_the_loss_of_separate_ones(
    aligned: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """No leak between conversations in a row: TRL's loss of packed rows, all in one batch, is ours of separate ones."""
    options = {"packing": True, "max_steps": 1, "learning_rate": 0.0, "max_length": 256}
    evaluation = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 64}
    settings = sft_settings(aligned, tmp_path / "out", **options, **evaluation)
    settings |= {"model": str(aligned / "sft" / "model"), "held_out_fraction": 0.5}

    assert run("sft", settings, tmp_path) == 0

    measures = read_output(tmp_path / "out").measures
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    [packed] = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert float(packed) == pytest.approx(measures["held_out_loss_after"], abs=1.1e-4)
    assert measures["held_out_loss_after"] == measures["held_out_loss_before"] > 0
    assert read_output(tmp_path / "out").counts["longer_than_max_length"] == 0
    assert [str(one.message) for one in recwarn if "v2.0.0" in str(one.message)] == [], "TRL removes it"


def test_an_adapter_is_kept_and_merged_and_the_base_stays(aligned: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    settings = {**sft_settings(aligned, tmp_path / "out", max_steps=4), "adapter": {"r": 4, "alpha": 8}}

    assert run("sft", settings, tmp_path) == 0

    ids = torch.arange(12)[None]
    base = CodeShellForCausalLM.from_pretrained(aligned / "base", dtype=torch.float32)
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")(ids).logits
    merged = CodeShellForCausalLM.from_pretrained(tmp_path / "out" / "model", dtype=torch.float32)(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-4)
    assert not torch.allclose(plain, merged, atol=1e-3)
    assert CodeShellTokenizer.from_pretrained(tmp_path / "out" / "adapter").eos_token
    tuned = load_file(tmp_path / "out" / "model" / "model.safetensors")
    untouched = load_file(aligned / "base" / "model.safetensors")
    assert torch.equal(tuned["transformer.wte.weight"], untouched["transformer.wte.weight"])
    hold_no_training_state(tmp_path / "out" / "model")
    modes = [
        (tmp_path / "out" / "adapter" / f"adapter_{n}").stat().st_mode for n in ("model.safetensors", "config.json")
    ]
    assert modes[0] == modes[1]


def test_trls_options_are_open_through_the_trainer_section(aligned: Path, tmp_path: Path) -> None:
    """Long conversations are split on the way, and it is reported how many."""
    lines = [{"prompt": "q" * 300, "completion": "a" * 90}, {"prompt": "q", "completion": "b" * 300}]
    lines += [{"prompt": "q", "completion": "a"}] * 8
    settings = sft_settings(
        aligned, tmp_path / "out", max_length=64, neftune_noise_alpha=5, loss_type="dft", packing=True
    )
    settings["conversations"] = [str(write_lines(tmp_path / "long.jsonl", lines))]

    assert run("sft", settings, tmp_path) == 0

    manifest = read_output(tmp_path / "out")
    assert manifest.settings["trainer"]["neftune_noise_alpha"] == 5
    assert manifest.counts["longer_than_max_length"] == 2


def test_a_dry_run_shows_the_released_forms_with_their_loss(
    tiny_tokenizer: CodeShellTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    chat = [{"from": "human", "value": "q"}, {"from": "assistant", "value": "r"}]
    code = [{"from": "copilot", "value": "def f():"}, {"from": "assistant", "value": " return 1"}]
    (tmp_path / "chat.json").write_text(json.dumps([{"id": "1", "conversations": chat}], indent=1))
    (tmp_path / "code.json").write_text(json.dumps([{"id": "2", "conversations": code}], indent=1))
    settings = sft_settings(tmp_path, tmp_path / "out")
    settings["conversations"] = [str(tmp_path / "chat.json"), str(tmp_path / "code.json")]

    assert run("sft", settings, tmp_path, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "rows by form: codeshell (1)" in printed
    assert "## human:q|<end>|## assistant:⟦ r|<end>|<|endoftext|>⟧" in printed
    assert "def f():⟦ return 1<|endoftext|>⟧" in printed
    assert run("sft", {**settings, "format": "codeshell-original"}, tmp_path, "--dry-run") == 0
    assert "<|endoftext|>## human:q |<end>| ## assistant:⟦r |<end>| ⟧" in capsys.readouterr().out
    assert run("sft", {**settings, "format": "poem"}, tmp_path, "--dry-run") == 2
    (tmp_path / "code.json").write_text('[{"id": "2"},\n{"id": }]')
    assert run("sft", settings, tmp_path, "--dry-run") == 2
    assert "code.json is not JSON from line 2 on (Expecting value); mend it there, or" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_tune_as_one_does(aligned: Path, tmp_path: Path) -> None:
    measured = []
    for ranks in (1, 2):
        path = tmp_path / f"{ranks}.yaml"
        options = {"per_device_train_batch_size": 8 // ranks, "max_steps": 5}  # within the first epoch
        path.write_text(json.dumps(sft_settings(aligned, tmp_path / str(ranks), **options)))
        process = start("-m", "recipes.sft", str(path), ranks=ranks, is_warm=True)
        printed = process.communicate(timeout=240)[0]
        assert process.returncode == 0, printed[-3000:]
        measured.append(read_output(tmp_path / str(ranks)).measures)
        assert not (tmp_path / f"{ranks}.partial").exists()

    assert measured[0]["held_out_loss_after"] == pytest.approx(measured[1]["held_out_loss_after"], abs=2e-4)
    assert measured[0]["held_out_loss_after"] < measured[0]["held_out_loss_before"]
    assert measured[0]["held_out_change"]["high"] < 0
    assert measured[0]["held_out_change"]["prompts"] == 8


@pytest.mark.slow
def test_ranks_that_would_train_apart_are_an_error(aligned: Path, tmp_path: Path) -> None:
    """Evaluating before training makes accelerate leave the model bare; the recipe's own check catches it."""
    (tmp_path / "sft.yaml").write_text(json.dumps(sft_settings(aligned, tmp_path / "out")))
    script = (
        "import codeshell_hf.stages.stage, recipes.sft, sys\n"
        "train = recipes.sft.train\n"
        "recipes.sft.train = lambda trainer: (trainer.evaluate(), train(trainer))\n"
        f"sys.exit(codeshell_hf.stages.stage.main(recipes.sft.STAGE, ['{tmp_path}/sft.yaml']))\n"
    )
    (tmp_path / "early.py").write_text(script)
    process = start(str(tmp_path / "early.py"), ranks=2, is_warm=True, PYTHONPATH=str(ROOT))
    printed = process.communicate(timeout=240)[0]

    assert process.returncode != 0
    assert "and their gradients would not be averaged" in printed
