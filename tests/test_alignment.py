"""The recipes of alignment: what they learn, what they refuse, and every system's settings, two steps each."""

import importlib
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from codeshell_hf import CodeShellForSequenceClassification, CodeShellTokenizer
from codeshell_hf.align.scores import score_texts
from codeshell_hf.errors import RunFailed
from codeshell_hf.manifest import flatten, read_manifest
from codeshell_hf.presets import make_config
from codeshell_hf.sandbox import RUNGS
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import load_settings, read_yaml
from codeshell_hf.stages.stage import Stage, main
from recipes import merge
from recipes.examples import open_tokenizer
from recipes.reward import calibrate
from recipes.rewards import load_scorer
from recipes.rlhf import make_watch
from tests.endpoint import serve_judge
from tests.rungs import RUNG
from tests.warm import start

ROOT = Path(__file__).parents[1]
KINDS = ("sft", "preferences", "reward", "rlhf", "dpo")
SYSTEMS = sorted(
    path
    for path in (ROOT / "recipes").glob("*/*.yaml")
    if path.stem.split("-")[0] in KINDS and path.parent.name != "nano"
)
# A model this small learns this by heart, and says either.
QUESTIONS = {"make x one": ("x = 1", "x = 2"), "make y big": ("y = 100", "y = 1"), "say z": ("z = 'z'", "z = 'a'")}
TESTS = {"make x one": "assert x == 1", "make y big": "assert y == 100", "say z": "assert z == 'z'"}

pytestmark = pytest.mark.xdist_group("alignment")


@pytest.fixture(autouse=True)
def fresh_accelerate() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


def interrupt(*given: object, **named: object) -> None:
    raise KeyboardInterrupt


def get_stage(name: str) -> Stage:
    return importlib.import_module(f"recipes.{name}").STAGE


def write_lines(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def run(stage: str, settings: dict, home: Path, *more: str) -> int:
    AcceleratorState._reset_state(reset_partial_state=True)
    path = home / f"{stage}.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return main(get_stage(stage), [str(path), *more])


def trainer(**changes: object) -> dict:
    return {
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "report_to": "none",
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        **changes,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Path:
    """A tiny model that was tuned on right and wrong answers alike, with what the later stages need."""
    from codeshell_hf import CodeShellForCausalLM

    home = tmp_path_factory.mktemp("alignment")
    torch.manual_seed(0)
    config = make_config(
        "nano", vocab_size=len(tiny_tokenizer), n_positions=4096, n_embd=64, n_head=4, n_layer=2, n_inner=128
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = tiny_tokenizer.eos_token_id
    CodeShellForCausalLM(config).save_pretrained(home / "base")
    tiny_tokenizer.save_pretrained(home / "base")
    lines = [{"prompt": q, "completion": a, "tests": TESTS[q]} for q, answers in QUESTIONS.items() for a in answers]
    write_lines(home / "conversations.jsonl", lines * 8)
    write_lines(home / "prompts.jsonl", lines[::2])
    write_lines(
        home / "pairs.jsonl", [{"prompt": q, "chosen": a, "rejected": b} for q, (a, b) in QUESTIONS.items()] * 4
    )
    settings = {
        "output": str(home / "sft"),
        "model": str(home / "base"),
        "conversations": [str(home / "conversations.jsonl")],
        "trainer": trainer(max_length=128, max_steps=90, learning_rate=1e-2, warmup_steps=5),
    }
    assert run("sft", settings, home) == 0
    pairs = {
        "output": str(home / "preferences"),
        "model": str(home / "sft" / "model"),
        "prompts": [str(home / "prompts.jsonl")],
        "sample": {"per_prompt": 24, "max_new_tokens": 24},
        "sandbox": RUNG,
    }
    assert run("preferences", pairs, home) == 0
    reward = {
        "output": str(home / "reward"),
        "model": str(home / "sft" / "model"),
        "pairs": [str(home / "preferences" / "pairs.jsonl"), str(home / "pairs.jsonl")],
        "held_out_fraction": 0.34,
        "trainer": trainer(max_length=128, max_steps=20),
    }
    assert run("reward", reward, home) == 0
    return home


def rlhf_settings(home: Path, **changes: object) -> dict:
    settings = {
        "output": str(home / "rlhf"),
        "model": str(home / "sft" / "model"),
        "prompts": [str(home / "prompts.jsonl")],
        "rewards": [{"kind": "tests", "weight": 1.0}, {"kind": "format", "weight": 0.0}],
        "sandbox": RUNG,
        "measure": {"prompts": [str(home / "prompts.jsonl")], "per_prompt": 32, "max_new_tokens": 24},
        "trainer": trainer(
            max_steps=25,
            num_generations=8,
            per_device_train_batch_size=24,
            max_completion_length=24,
            learning_rate=2e-3,
            beta=0.01,
        ),
    }
    return {**settings, **changes}


def test_preferences_that_were_stopped_go_on_in_the_same_precision(home: Path, tmp_path: Path, monkeypatch) -> None:
    """Stopped behind the probe, which says the opposite at the second try."""
    settings = {
        "output": str(tmp_path / "preferences"),
        "model": str(home / "sft" / "model"),
        "prompts": [str(home / "prompts.jsonl")],
        "sample": {"per_prompt": 24, "max_new_tokens": 24},
        "sandbox": RUNG,
    }
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.19)
    with monkeypatch.context() as stopped:
        stopped.setattr("codeshell_hf.sandbox.Sandbox.run", interrupt)
        assert run("preferences", settings, tmp_path) == 75
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.21)

    assert run("preferences", settings, tmp_path) == 0

    assert read_manifest(tmp_path / "preferences").precision["arithmetic"] == "float32"


def test_float16_is_the_trainers_own_and_threads_are_recorded(home: Path, tmp_path: Path, monkeypatch) -> None:
    from codeshell_hf.stages.stage import Work
    from recipes.alignment import choose_bf16
    from recipes.sft import STAGE

    monkeypatch.setattr("codeshell_hf.processors.count_threads", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    settings = STAGE.settings(
        output=tmp_path / "out", model=home / "base", conversations=[home / "conversations.jsonl"],
        trainer={"fp16": True},
    )  # fmt: skip
    work = Work(tmp_path)

    try:
        assert choose_bf16(settings, work, tmp_path) is False
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert work.precision == {"asked": "float16", "arithmetic": "float16", "device": device, "threads": 1}


def test_preferences_are_made_of_the_models_own_answers_by_their_tests(home: Path) -> None:
    manifest = read_manifest(home / "preferences")
    lines = [json.loads(line) for line in (home / "preferences" / "pairs.jsonl").read_text().splitlines()]

    assert manifest.counts["by_source"] == {"tests": len(lines)}
    assert manifest.counts["samples"] == 72
    assert 0 < manifest.measures["pass_rate"] < 1
    for line in lines:
        question = line["prompt"][0]["content"]
        assert line["chosen"][0]["content"] == QUESTIONS[question][0]
        assert line["rejected"][0]["content"] != QUESTIONS[question][0]


def test_learning_from_tests_raises_their_pass_rate(home: Path) -> None:
    """The model says right and wrong answers alike; after 25 steps the interval of the change is above zero."""
    assert run("rlhf", rlhf_settings(home, output=str(home / "learnt")), home) == 0

    manifest = read_manifest(home / "learnt")
    change = manifest.measures["measured"]["tests"]
    assert change["after"] - change["before"] > 0.15, change
    assert change["prompts"] == 3
    assert set(manifest.measures["measured"]) == {"tests", "format", "weighted", "tokens", "finished"}
    assert manifest.measures["reward_hacking"] == []
    assert (home / "learnt" / "rewards.svg").read_text().startswith("<svg")
    before = load_file(home / "sft" / "model" / "model.safetensors")
    after = load_file(home / "learnt" / "model" / "model.safetensors")
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    log = json.loads((home / "learnt" / "log.json").read_text())
    assert {"kl", "reward", "completions/mean_length", "rewards/tests/mean"} <= log[0].keys()


def test_the_trainer_evaluates_on_held_out_prompts(home: Path, tmp_path: Path) -> None:
    settings = rlhf_settings(home, output=str(tmp_path / "out"), measure=None)
    settings["held_out_prompts"] = [str(home / "prompts.jsonl")]
    settings["trainer"].update(max_steps=2, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=24)

    assert run("rlhf", settings, tmp_path) == 0

    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert [entry["step"] for entry in log if "eval_rewards/tests/mean" in entry] == [1, 2]


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_rewards_mix_by_weight_under_both_methods(home: Path, tmp_path: Path, method: str) -> None:
    rewards = [
        {"kind": "model", "path": str(home / "reward" / "model"), "weight": 0.5},
        {"kind": "tests", "weight": 2.0},
        {"kind": "length", "soft_tokens": 8, "weight": 0.25},
    ]
    settings = rlhf_settings(home, output=str(tmp_path / "out"), rewards=rewards, method=method)
    settings["trainer"]["max_steps"] = 2

    assert run("rlhf", settings, tmp_path) == 0

    entry = json.loads((tmp_path / "out" / "log.json").read_text())[0]
    parts = {name: float(entry[f"rewards/{name}/mean"]) for name in ("model", "tests", "length")}
    assert float(entry["reward"]) == pytest.approx(
        0.5 * parts["model"] + 2 * parts["tests"] + 0.25 * parts["length"], abs=1e-4
    )


def test_trl_and_the_recipe_read_the_same_score(home: Path, tiny_tokenizer) -> None:
    model, tokenizer = load_scorer(home / "reward" / "model")
    prompt = [{"role": "user", "content": "make x one"}]

    finished, other = score_texts(
        model,
        tokenizer,
        [[*prompt, {"role": "assistant", "content": text}] for text in (" x = 1|<end>|", "x = 1|<end>|")],
    )

    assert finished == pytest.approx(other, abs=1e-5)
    assert isinstance(model, CodeShellForSequenceClassification)


def test_a_reward_models_margins_do_not_depend_on_the_batch(home: Path, tmp_path: Path) -> None:
    """Batches that do not divide the pairs: the accuracy is that of every pair scored by itself."""
    measured = []
    for batch in (1, 5):
        settings = {
            "output": str(tmp_path / f"out{batch}"),
            "model": str(home / "sft" / "model"),
            "pairs": [str(home / "preferences" / "pairs.jsonl")],
            "held_out_fraction": 0.4,
            "trainer": trainer(max_length=128, max_steps=2, per_device_eval_batch_size=batch),
        }
        assert run("reward", settings, tmp_path) == 0
        measured.append(read_manifest(tmp_path / f"out{batch}").measures)

    assert measured[0] == measured[1]
    assert (tmp_path / "out1" / "calibration.svg").read_text().startswith("<svg")


def test_calibration_groups_by_sureness() -> None:
    groups = calibrate([3.0] * 9 + [-3.0])

    assert groups == [{"sure": pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4), "right": 0.9, "pairs": 10}]


def test_pairs_that_are_too_long_are_counted(home: Path, tmp_path: Path, capsys) -> None:
    lines = [{"prompt": f"q{i}", "chosen": "x" * (500 if i == 0 else 1), "rejected": "y"} for i in range(8)]
    settings = {
        "output": str(tmp_path / "out"),
        "model": str(home / "sft" / "model"),
        "pairs": [str(write_lines(tmp_path / "pairs.jsonl", [*lines, {**lines[1], "rejected": "x"}]))],
        "held_out_fraction": 0.25,
        "trainer": trainer(max_length=64, max_steps=1),
    }

    for stage in ("reward", "dpo"):
        assert run(stage, settings, tmp_path) == 0
        counts = read_manifest(tmp_path / "out").counts
        assert counts["longer_than_max_length"] == 1
        assert counts["dropped"] == {"chosen equals rejected": 1}
        assert counts["pairs"] + counts["held_out"] == 7


def test_direct_preferences_are_learnt_and_judged_by_tests(home: Path) -> None:
    settings = {
        "output": str(home / "dpo"),
        "model": str(home / "sft" / "model"),
        "pairs": [str(home / "preferences" / "pairs.jsonl"), str(home / "pairs.jsonl")],
        "held_out_fraction": 0.34,
        "sandbox": RUNG,
        "measure": {"prompts": [str(home / "prompts.jsonl")], "per_prompt": 32, "max_new_tokens": 24},
        "trainer": trainer(max_length=128, max_steps=12, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5]),
    }

    assert run("dpo", settings, home) == 0

    manifest = read_manifest(home / "dpo")
    before = load_file(home / "sft" / "model" / "model.safetensors")
    after = load_file(home / "dpo" / "model" / "model.safetensors")
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert manifest.measures["measured"]["tests"]["after"] > manifest.measures["measured"]["tests"]["before"]


def hold_no_training_state(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    (folder / "opened").touch()
    granted = (folder / "opened").stat().st_mode & 0o777
    (folder / "opened").unlink()

    assert config["use_cache"] is True
    assert not {"is_local", "local_files_only"} & (tokenizer.keys() | config.keys())
    assert set(modes.values()) == {granted}, modes


def test_what_is_saved_holds_no_training_state(home: Path, tmp_path: Path) -> None:
    step = trainer(max_length=128, max_steps=1)
    pairs = {"pairs": [str(home / "pairs.jsonl")], "held_out_fraction": 0.34}
    shared = {"output": str(tmp_path / "dpo"), "model": str(home / "sft" / "model")}
    rlhf = trainer(max_steps=1, num_generations=2, per_device_train_batch_size=6, max_completion_length=4)
    adapted = {**sft_settings(home, tmp_path / "adapted", max_steps=1), "adapter": {"r": 4, "alpha": 8}}

    assert run("dpo", {**shared, **pairs, "trainer": step}, tmp_path) == 0
    assert run("rlhf", rlhf_settings(home, output=str(tmp_path / "rlhf"), measure=None, trainer=rlhf), tmp_path) == 0
    assert run("sft", adapted, tmp_path) == 0

    for stage in (home / "sft", home / "reward", tmp_path / "dpo", tmp_path / "rlhf", tmp_path / "adapted"):
        hold_no_training_state(stage / "model")
    adapter = (tmp_path / "adapted" / "adapter" / "adapter_model.safetensors").stat().st_mode
    assert adapter == (tmp_path / "adapted" / "adapter" / "adapter_config.json").stat().st_mode


@pytest.mark.parametrize("loss_type", ["hinge", "ipo", "robust", "apo_zero"])
def test_dpos_variants_take_a_step(home: Path, tmp_path: Path, loss_type: str) -> None:
    settings = {
        "output": str(tmp_path / "out"),
        "model": str(home / "sft" / "model"),
        "pairs": [str(home / "pairs.jsonl")],
        "held_out_fraction": 0.34,
        "trainer": trainer(max_length=128, max_steps=1, loss_type=[loss_type], label_smoothing=0.1),
    }

    assert run("dpo", settings, tmp_path) == 0
    assert read_manifest(tmp_path / "out").counts["steps"] == 1


def test_a_reward_that_stops_being_a_number_stops_the_run() -> None:
    class State:
        global_step = 7

    watch = make_watch()
    watch.on_log(None, State(), None, {"reward": 0.5, "rewards/model/mean": 0.1, "kl": math.nan})
    with pytest.raises(RunFailed, match="rewards/model/mean became nan at step 7; look at that reward"):
        watch.on_log(None, State(), None, {"rewards/model/mean": math.nan})


def test_an_endpoint_judges_prompts_without_tests_and_files_are_added(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("JUDGE_KEY", "not-a-real-one")
    prompts = [{"prompt": question, "completion": "-"} for question in QUESTIONS]
    settings = {
        "output": str(tmp_path / "out"),
        "model": str(home / "sft" / "model"),
        "prompts": [str(write_lines(tmp_path / "prompts.jsonl", prompts))],
        "sample": {"per_prompt": 16, "max_new_tokens": 24},
        "files": [str(home / "pairs.jsonl")],
    }
    with serve_judge() as endpoint:
        judge = {"url": endpoint.url, "model": "judge", "token_variable": "JUDGE_KEY"}
        assert run("preferences", {**settings, "judge": judge}, tmp_path) == 0

    counts = read_manifest(tmp_path / "out").counts
    assert counts["by_source"]["pairs.jsonl"] == 12
    assert counts["by_source"].get("judge", 0) + counts["dropped"].get("prompts left the judge undecided", 0) == 3
    assert counts["judge_requests"] == endpoint.requests
    assert "not-a-real-one" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


# Fine-tuning


def sft_settings(home: Path, output: Path, **changes: object) -> dict:
    return {
        "output": str(output),
        "model": str(home / "base"),
        "conversations": [str(home / "conversations.jsonl")],
        "trainer": trainer(**{"max_length": 128, "max_steps": 2, **changes}),
    }


def test_packed_rows_give_the_loss_of_separate_ones(home: Path, tmp_path: Path) -> None:
    """No leak between conversations in a row: the held-out loss before training is the same to its last digit."""
    losses = []
    for packing in (False, True):
        settings = sft_settings(home, tmp_path / str(packing), packing=packing, max_steps=1)
        settings["model"] = str(home / "sft" / "model")
        settings["held_out_fraction"] = 0.5
        settings["trainer"]["per_device_eval_batch_size"] = 3
        assert run("sft", settings, tmp_path) == 0
        losses.append(read_manifest(tmp_path / str(packing)).measures["held_out_loss_before"])
        assert read_manifest(tmp_path / str(packing)).counts["longer_than_max_length"] == 0

    assert losses[0] == pytest.approx(losses[1], abs=1.1e-4)
    assert losses[0] > 0


def test_an_adapter_is_kept_and_merged_and_the_base_stays(home: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    from codeshell_hf import CodeShellForCausalLM

    settings = {**sft_settings(home, tmp_path / "out", max_steps=4), "adapter": {"r": 4, "alpha": 8}}

    assert run("sft", settings, tmp_path) == 0

    ids = torch.arange(12)[None]
    base = CodeShellForCausalLM.from_pretrained(home / "base", dtype=torch.float32)
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")(ids).logits
    merged = CodeShellForCausalLM.from_pretrained(tmp_path / "out" / "model", dtype=torch.float32)(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-4)
    assert not torch.allclose(plain, merged, atol=1e-3)
    assert CodeShellTokenizer.from_pretrained(tmp_path / "out" / "adapter").eos_token
    tuned = load_file(tmp_path / "out" / "model" / "model.safetensors")
    untouched = load_file(home / "base" / "model.safetensors")
    assert torch.equal(tuned["transformer.wte.weight"], untouched["transformer.wte.weight"])


def test_a_kept_adapter_is_merged_later_by_a_command(home: Path, tmp_path: Path, capsys) -> None:
    settings = sft_settings(home, tmp_path / "out", max_steps=3)
    assert run("sft", {**settings, "adapter": {"r": 4, "alpha": 8}}, tmp_path) == 0
    (tmp_path / "out" / "model").rename(tmp_path / "at-once")

    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 0

    at_once, later = (load_file(tmp_path / name / "model.safetensors") for name in ("at-once", "later"))
    assert at_once.keys() == later.keys()
    assert all(torch.equal(at_once[key], later[key]) for key in later)
    assert CodeShellTokenizer.from_pretrained(tmp_path / "later").eos_token
    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 2
    assert merge.main([str(tmp_path), str(tmp_path / "other")]) == 2
    shutil.rmtree(tmp_path / "later")
    config = tmp_path / "out" / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(home / "base"), str(tmp_path / "gone")))
    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 2
    errors = capsys.readouterr().err
    assert "is there already" in errors
    assert "holds no adapter_config.json" in errors
    assert f"cannot be merged into {tmp_path}/gone" in errors


def test_adapters_train_in_every_stage(home: Path, tmp_path: Path) -> None:
    adapter = {"r": 4, "alpha": 8}
    pairs = {"pairs": [str(home / "pairs.jsonl")], "held_out_fraction": 0.34}
    common = {"model": str(home / "sft" / "model"), "adapter": adapter}
    for stage, settings in {
        "reward": {**common, **pairs, "trainer": trainer(max_length=128, max_steps=2)},
        "dpo": {**common, **pairs, "trainer": trainer(max_length=128, max_steps=2)},
        "rlhf": {**rlhf_settings(home), **common},
    }.items():
        if stage == "rlhf":
            settings["trainer"]["max_steps"] = 2
        assert run(stage, {**settings, "output": str(tmp_path / stage)}, tmp_path) == 0, stage
        assert (tmp_path / stage / "adapter" / "adapter_model.safetensors").exists()
        merged = load_file(tmp_path / stage / "model" / "model.safetensors")
        assert ("score.weight" in merged) == (stage == "reward")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is at hand, so four bits may be too")
def test_four_bits_without_a_gpu_are_refused(home: Path, tmp_path: Path, capsys) -> None:
    settings = {**sft_settings(home, tmp_path / "out"), "adapter": {"quantization": "4bit"}}

    assert run("sft", settings, tmp_path) == 2
    assert "adapter.quantization is 4bit, which needs a GPU and bitsandbytes" in capsys.readouterr().err


def test_trls_options_are_open_through_the_trainer_section(home: Path, tmp_path: Path) -> None:
    settings = sft_settings(home, tmp_path / "out", neftune_noise_alpha=5, loss_type="dft", packing=True)

    assert run("sft", settings, tmp_path) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest.settings["trainer"]["neftune_noise_alpha"] == 5


def test_long_conversations_are_split_and_counted(home: Path, tmp_path: Path, capsys) -> None:
    lines = [{"prompt": "q" * 300, "completion": "a" * 90}, {"prompt": "q", "completion": "b" * 300}]
    lines += [{"prompt": "q", "completion": "a"}] * 8
    settings = sft_settings(home, tmp_path / "out", max_length=64)
    settings["conversations"] = [str(write_lines(tmp_path / "long.jsonl", lines))]

    assert run("sft", settings, tmp_path) == 0

    counts = read_manifest(tmp_path / "out").counts
    assert counts["longer_than_max_length"] == 2
    assert "2 were longer than 64 tokens and were split" in capsys.readouterr().out


# Launching, stopping and going on


def test_two_ranks_tune_as_one_does(home: Path, tmp_path: Path) -> None:
    measured = []
    for ranks in (1, 2):
        path = tmp_path / f"{ranks}.yaml"
        changes = {"per_device_train_batch_size": 8 // ranks, "max_steps": 5}  # within the first epoch
        path.write_text(json.dumps(sft_settings(home, tmp_path / str(ranks), **changes)))
        process = start("-m", "recipes.sft", str(path), ranks=ranks, is_warm=True)
        printed = process.communicate(timeout=240)[0]
        assert process.returncode == 0, printed[-3000:]
        measured.append(read_manifest(tmp_path / str(ranks)).measures)
        assert not (tmp_path / f"{ranks}.partial").exists()

    assert measured[0]["held_out_loss_after"] == pytest.approx(measured[1]["held_out_loss_after"], abs=2e-4)
    assert measured[0]["held_out_loss_after"] < measured[0]["held_out_loss_before"]
    assert measured[0]["held_out_change"]["high"] < 0
    assert measured[0]["held_out_change"]["prompts"] == 5


def test_ranks_that_would_train_apart_are_an_error(home: Path, tmp_path: Path) -> None:
    """Evaluating before training makes accelerate leave the model bare; the recipe's own check catches it."""
    (tmp_path / "sft.yaml").write_text(json.dumps(sft_settings(home, tmp_path / "out")))
    script = (
        "import recipes.sft, recipes.alignment, sys\n"
        "train = recipes.sft.train\n"
        "recipes.sft.train = lambda trainer, folder: (trainer.evaluate(), train(trainer, folder))\n"
        f"sys.exit(codeshell_hf.stages.stage.main(recipes.sft.STAGE, ['{tmp_path}/sft.yaml']))\n"
    )
    (tmp_path / "early.py").write_text(script)
    process = start(str(tmp_path / "early.py"), ranks=2, is_warm=True, PYTHONPATH=str(ROOT))
    printed = process.communicate(timeout=240)[0]

    assert process.returncode != 0
    assert "and their gradients would not be shared" in printed


def test_two_ranks_learn_from_rewards(home: Path, tmp_path: Path) -> None:
    settings = rlhf_settings(home, output=str(tmp_path / "out"))
    settings["trainer"].update(max_steps=2, per_device_train_batch_size=8)
    (tmp_path / "rlhf.yaml").write_text(json.dumps(settings))

    process = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"), ranks=2, is_warm=True)
    printed = process.communicate(timeout=240)[0]

    assert process.returncode == 0, printed[-3000:]
    assert printed.count("rlhf: wrote") == 1
    assert read_manifest(tmp_path / "out").counts["steps"] == 2


def test_killed_learning_from_rewards_goes_on(home: Path, tmp_path: Path) -> None:
    settings = rlhf_settings(home, output=str(tmp_path / "out"))
    settings["trainer"].update(max_steps=12, save_strategy="steps", save_steps=1, save_total_limit=2)
    (tmp_path / "rlhf.yaml").write_text(json.dumps(settings))
    process = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.partial").glob("checkpoints/checkpoint-3")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)

    again = start("-m", "recipes.rlhf", str(tmp_path / "rlhf.yaml"), is_warm=True)
    printed = again.communicate(timeout=240)[0]

    assert again.returncode == 0, printed[-3000:]
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert [entry["step"] for entry in log if "reward" in entry] == list(range(1, 13))
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("word", ["FSDP", "DEEPSPEED"])
def test_sharding_that_is_asked_for_and_not_had_is_an_error(
    home: Path, tmp_path: Path, monkeypatch, capsys, word: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("with a GPU, sharding is had")
    monkeypatch.setenv(f"ACCELERATE_USE_{word}", "true")

    for stage, settings in (("sft", sft_settings(home, tmp_path / "out")), ("rlhf", rlhf_settings(home))):
        assert run(stage, settings, tmp_path) == 2
        assert f"accelerate's file asks for {word}, which needs GPUs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp2", "zero3"])
def test_accelerate_reads_its_files(name: str) -> None:
    path = ROOT / "recipes" / "accelerate" / f"{name}.yaml"

    config = load_config_from_file(str(path))

    kinds = {"cpu": "NO", "ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED"}
    assert config.distributed_type.value == kinds[name]
    assert config.to_dict().items() >= {"num_machines": 1, "machine_rank": 0}.items()
    if name == "fsdp2":
        from codeshell_hf import CodeShellForCausalLM

        assert [config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"]] == CodeShellForCausalLM._no_split_modules


# Bad input

BAD = {
    "unknown key": ("sft", {"trainer": {"max_len": 3}}, 2, "unknown key 'max_len' in the section trainer"),
    "owned key": (
        "sft",
        {"trainer": {"assistant_only_loss": True}},
        2,
        "trainer.assistant_only_loss is decided by the",
    ),
    "wrong value": ("sft", {"trainer": {"lr_scheduler_type": "round"}}, 2, "trainer: "),
    "no answers in rows": ("sft", {"trainer": {"max_length": 1}}, 2, "has an answer within rows of 1 tokens"),
    "few conversations": ("sft", {"held_out_fraction": 0.001}, 2, "is 0 to measure on; change held_out_fraction"),
    "no model": ("sft", {"model": "HOME/corpus"}, 2, "HOME/corpus does not exist"),
    "no tokenizer": ("sft", {"model": "HOME/hollow"}, 2, "HOME/hollow has no tokenizer"),
    "no pairs": ("reward", {"pairs": ["HOME/equal.jsonl"]}, 2, "no pair to learn from (1 because chosen equals"),
    "long pairs": ("reward", {"trainer": {"max_length": 2}}, 2, "pairs to train on is within 2 tokens"),
    "no samples": ("preferences", {"sample": None}, 2, "so prompts and sample are needed too"),
    "no pair came": ("preferences", {"model": "HOME/base"}, 2, "no pair came of it"),
    "no such rung": ("preferences", {"sandbox": "docker"}, 2, "sandbox"),
    "no key": (
        "preferences",
        {"prompts": ["HOME/bare.jsonl"], "judge": {"url": "http://x", "model": "m", "token_variable": "NO_SUCH_KEY"}},
        2,
        "judge.token_variable is NO_SUCH_KEY, which is not set",
    ),
    "no beta": ("rlhf", {"method": "grpo", "trainer": {"beta": ...}}, 2, "trainer.beta is not given"),
    "no weight": ("rlhf", {"rewards": [{"kind": "format", "weight": 0}]}, 2, "every reward has weight 0"),
    "twice": ("rlhf", {"rewards": [{"kind": "format"}] * 2}, 2, "give each kind once"),
    "no tests": ("rlhf", {"prompts": ["HOME/bare.jsonl"]}, 2, "no prompt is left to learn from (3 prompts have no"),
    "no room": ("rlhf", {"trainer": {"max_completion_length": 5000}}, 2, "leave no room for an answer in 4096"),
    "no head": (
        "rlhf",
        {"rewards": [{"kind": "model", "path": "HOME/sft/model"}]},
        2,
        "HOME/sft/model has no head that gives one score",
    ),
    "reward is not a number": (
        "rlhf",
        {"rewards": [{"kind": "model", "path": "HOME/broken"}]},
        2,
        "HOME/broken has weights that are not numbers",
    ),
    "nothing to evaluate on": ("rlhf", {"trainer": {"eval_strategy": "steps"}}, 2, "name held_out_prompts"),
    "no vllm": ("rlhf", {"trainer": {"use_vllm": True}}, 2, "trainer.use_vllm is true, but vllm is not installed"),
    "no full batch": (
        "rlhf",
        {"trainer": {"per_device_train_batch_size": 64}},
        2,
        "3 examples do not fill one batch, so no step was taken",
    ),
    "no length": (
        "rlhf",
        {"rewards": [{"kind": "length", "soft_tokens": 24}]},
        2,
        "soft_tokens is 24, but answers end",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(home: Path, tmp_path: Path, capsys, name: str) -> None:
    stage, changes, code, message = BAD[name]
    (home / "hollow").mkdir(exist_ok=True)
    write_lines(home / "equal.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "a"}])
    write_lines(home / "bare.jsonl", [{"prompt": question, "completion": "-"} for question in QUESTIONS])
    if not (home / "broken").exists():
        shutil.copytree(home / "reward" / "model", home / "broken")
        model = CodeShellForSequenceClassification.from_pretrained(home / "broken")
        model.score.weight.data.fill_(math.nan)
        model.save_pretrained(home / "broken")
    pairs = {"model": str(home / "sft/model"), "pairs": [str(home / "pairs.jsonl")], "held_out_fraction": 0.34}
    plain = {
        "sft": sft_settings(home, tmp_path / "out"),
        "reward": {**pairs, "trainer": trainer(max_length=128, max_steps=1)},
        "preferences": {
            "model": str(home / "sft" / "model"),
            "prompts": [str(home / "prompts.jsonl")],
            "sample": {"per_prompt": 2, "max_new_tokens": 4},
            "sandbox": "none",
        },
        "rlhf": {**rlhf_settings(home), "measure": None, "sandbox": "none"},
    }[stage]
    settings = json.loads(json.dumps({**plain, "output": str(tmp_path / "out")}))
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            settings[key].update(value)
            settings[key] = {inner: given for inner, given in settings[key].items() if given is not ...}
        else:
            settings[key] = value
    settings = json.loads(json.dumps(settings).replace("HOME", str(home)))
    capsys.readouterr()

    given = run(stage, settings, tmp_path)

    complaint = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{stage}: error: ")]
    assert given == code
    assert len(complaint) == 1
    assert message.replace("HOME", str(home)) in complaint[0]
    assert not (tmp_path / "out").exists()


def test_the_recipes_know_the_rungs_of_the_sandbox() -> None:
    assert SandboxSettings.model_fields["sandbox"].annotation.__args__ == RUNGS


def test_special_tokens_in_a_prompt_are_letters_for_the_trainer_too(home: Path) -> None:
    tokenizer = open_tokenizer(home / "base")

    ids = tokenizer.apply_chat_template([{"role": "user", "content": "<|endoftext|>"}], return_dict=True)["input_ids"]

    assert tokenizer.eos_token_id not in ids


# Every system

SIZES = {
    "output",
    "model",
    "held_out_fraction",
    "conversations",
    "prompts",
    "pairs",
    "files",
    "held_out_prompts",
    "sandbox",
    "trainer.max_steps",
    "trainer.per_device_train_batch_size",
    "trainer.per_device_eval_batch_size",
    "trainer.gradient_accumulation_steps",
}


@pytest.mark.parametrize("path", SYSTEMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_systems_recipe_takes_two_steps(home: Path, tmp_path: Path, path: Path) -> None:
    """As committed, with another model, other data and other batch sizes, and nothing else."""
    name = path.stem.split("-")[0]
    stage = get_stage(name)
    given = read_yaml(path)
    changes = {"output": f"{tmp_path}/out", "model": f"{home}/sft/model"}
    changes |= {key: f"[{home}/{key}.jsonl]" for key in ("conversations", "prompts", "pairs") if key in given}
    changes |= {"files": f"[{home}/pairs.jsonl]"} if "files" in given else {}
    changes |= {"held_out_prompts": f"[{home}/prompts.jsonl]"} if "held_out_prompts" in given else {}
    changes |= {"sandbox": RUNG} if "sandbox" in given else {}
    changes |= {"held_out_fraction": "0.34"} if "held_out_fraction" in given else {}
    if "trainer" in given:
        answers = given["trainer"].get("num_generations", 2)
        changes |= {"trainer.max_steps": "2", "trainer.gradient_accumulation_steps": "1"}
        changes |= {f"trainer.per_device_{kind}_batch_size": str(answers) for kind in ("train", "eval")}
    if "rewards" in given:
        moved = [
            {**reward, **({"path": f"{home}/reward/model"} if reward["kind"] == "model" else {})}
            for reward in given["rewards"]
        ]
        changes["rewards"] = json.dumps(moved)
    overrides = [f"{key}={value}" for key, value in changes.items()]

    before = flatten(load_settings(stage.settings, path).model_dump(mode="json"))
    after = flatten(load_settings(stage.settings, path, overrides).model_dump(mode="json"))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if "rewards" in given:
        assert [{**r, "path": 0} for r in before["rewards"]] == [{**r, "path": 0} for r in after["rewards"]]
        changed.discard("rewards")
    assert changed <= SIZES, changed - SIZES

    assert main(stage, [str(path), *overrides]) == 0

    manifest = read_manifest(tmp_path / "out")
    assert manifest.counts.get("steps", 2) == 2
    if "trainer" in given:
        tuned = load_file(tmp_path / "out" / "model" / "model.safetensors")
        start = load_file(home / "sft" / "model" / "model.safetensors")
        # A new head begins at zero, so nothing flows behind it in the very first step.
        assert any(not torch.equal(tuned[key], start.get(key, torch.zeros_like(tuned[key]))) for key in tuned)


def test_the_sources_batches_are_kept() -> None:
    instruct = read_yaml(ROOT / "recipes" / "instruct-65b-fsdp" / "sft.yaml")["trainer"]
    general = read_yaml(ROOT / "recipes" / "general-65b-zero3" / "sft.yaml")["trainer"]

    samples = 256 * instruct["per_device_train_batch_size"] * instruct["gradient_accumulation_steps"]
    tokens = (
        128 * general["per_device_train_batch_size"] * general["gradient_accumulation_steps"] * general["max_length"]
    )
    assert samples == 16_384
    assert tokens == 4_194_304
    for trainer_ in (instruct, general):
        assert trainer_["learning_rate"] == 2e-5
        assert trainer_["max_grad_norm"] == 1.0
        assert trainer_["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    assert (instruct["adam_beta1"], instruct["adam_beta2"], instruct["adam_epsilon"]) == (0.9, 0.95, 1e-6)


@pytest.mark.parametrize(
    ("precision", "keys", "launched", "message"),
    [
        (
            "float32",
            {"bf16": True},
            "no",
            "precision says float32, but trainer.bf16 says bfloat16; take one of them out",
        ),
        ("bfloat16", {"bf16": False}, "no", "precision says bfloat16, but trainer.bf16 says float32"),
        ("bfloat16", {"fp16": True}, "no", "precision says bfloat16, but trainer.fp16 says float16"),
        ("float32", {}, "bf16", "precision says float32, but accelerate's mixed_precision says bfloat16"),
        ("auto", {"bf16": False}, "bf16", "trainer.bf16 says float32, but accelerate's mixed_precision says bfloat16"),
    ],
)
def test_precisions_that_contradict_each_other_are_one_line(
    home: Path, tmp_path: Path, monkeypatch, capsys, precision: str, keys: dict, launched: str, message: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    given = {key: value for key, value in trainer(max_length=128, max_steps=1).items() if key != "bf16"}
    settings = {
        "output": str(tmp_path / "out"),
        "model": str(home / "base"),
        "conversations": [str(home / "conversations.jsonl")],
        "precision": precision,
        "trainer": {**given, **keys},
    }

    assert run("sft", settings, tmp_path) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "keys", "expected"),
    [
        ("float32", {}, "float32"),
        ("bfloat16", {}, "bfloat16"),
        ("auto", {"bf16": True}, "bfloat16"),
        ("auto", {"bf16": False}, "float32"),
    ],
)
def test_the_trainer_computes_in_the_precision_of_the_settings(
    home: Path, tmp_path: Path, precision: str, keys: dict, expected: str
) -> None:
    from trl import SFTConfig

    from codeshell_hf.stages.stage import Work
    from recipes.alignment import make_trainer_config
    from recipes.sft import STAGE

    settings = STAGE.settings(
        output=tmp_path / "out", model=home / "base", conversations=[home / "conversations.jsonl"],
        precision=precision, trainer=keys,
    )  # fmt: skip
    work = Work(tmp_path)

    config = make_trainer_config(SFTConfig, settings, work, tmp_path / "checkpoints")

    assert (config.bf16, config.fp16) == (expected == "bfloat16", False)
    assert work.precision["arithmetic"] == expected
    again = make_trainer_config(
        SFTConfig, settings.model_copy(update={"trainer": {}}), Work(tmp_path), tmp_path / "checkpoints"
    )
    assert again.bf16 == config.bf16, "a run that goes on keeps what it began with"


def test_a_trainers_report_is_one_line() -> None:
    from recipes.alignment import format_logs

    logs = {"loss": "2.365", "learning_rate": "0.00095", "entropy": "2.74", "epoch": 0.5}

    assert format_logs(40, 180, logs) == "step     40/180 | loss  2.365 | lr 9.5e-04"
    assert format_logs(180, 180, {"train_runtime": 3.0}) == ""
