"""What the stages on TRL share: options, precision, launchers, what is refused, and every system's settings."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from codeshell_hf import CodeShellForCausalLM, CodeShellForSequenceClassification, bundled
from codeshell_hf.manifest import flatten
from codeshell_hf.sandbox import BACKENDS
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.settings import load_settings, read_yaml
from codeshell_hf.stages.stage import Work, main
from recipes import sft
from recipes.with_trl import AlignmentSettings, make_trainer_config
from tests.backends import BACKEND
from tests.recipes.toy_alignment import (
    QUESTIONS,
    get_stage,
    pair_settings,
    preferences_settings,
    read_output,
    rlhf_settings,
    run,
    sft_settings,
    write_lines,
)

ROOT = Path(__file__).parents[2]
KINDS = ("sft", "preferences", "reward", "rlhf", "dpo")
SYSTEMS = sorted(
    path
    for path in (ROOT / "recipes").glob("*/*.yaml")
    if path.stem.split("-")[0] in KINDS and path.parent.name != "nano"
)
FAST = ("codeshell-7b-rlhf",)

pytestmark = pytest.mark.xdist_group("alignment")


@pytest.fixture(autouse=True)
def fresh_accelerate() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


def make_settings(home: Path, output: Path, precision: str, options: Mapping[str, object]) -> sft.Settings:
    given = {**sft_settings(home, output), "precision": precision, "trainer": options}
    return sft.Settings.model_validate(given)


@pytest.mark.parametrize(
    ("precision", "options", "expected"),
    [
        ("float32", {}, "float32"),
        ("bfloat16", {}, "bfloat16"),
        ("auto", {"bf16": True}, "bfloat16"),
        ("auto", {"bf16": False}, "float32"),
    ],
)
def test_the_trainer_computes_in_the_precision_of_the_settings(
    aligned: Path, tmp_path: Path, precision: str, options: dict[str, object], expected: str
) -> None:
    from trl import SFTConfig

    settings = make_settings(aligned, tmp_path / "out", precision, options)
    work = Work(tmp_path)

    config = make_trainer_config(SFTConfig, settings, work)

    assert (config.bf16, config.fp16) == (expected == "bfloat16", False)
    assert work.precision["compute_dtype"] == expected
    again = make_trainer_config(SFTConfig, settings.model_copy(update={"trainer": {}}), Work(tmp_path))
    assert again.bf16 == config.bf16, "a run that goes on keeps what it began with"


def test_float16_is_the_trainers_own_and_threads_are_recorded(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes.with_trl import resolve_bf16

    monkeypatch.setattr("codeshell_hf.processors.count_threads", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    work = Work(tmp_path)

    try:
        assert not resolve_bf16({"fp16": True}, work, model=aligned / "base", precision="auto", folder=tmp_path)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert work.precision == {"requested": "float16", "compute_dtype": "float16", "device": device, "threads": 1}


def test_precisions_that_contradict_each_other_are_one_line(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")

    assert run("sft", sft_settings(aligned, tmp_path / "out"), tmp_path) == 2

    assert "trainer.bf16 says float32, but accelerate's mixed_precision says bfloat16" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, sharding is had")
def test_sharding_that_is_asked_for_and_not_had_is_an_error(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    for stage, settings in (
        ("sft", sft_settings(aligned, tmp_path / "out")),
        ("rlhf", rlhf_settings(aligned, tmp_path / "out")),
    ):
        assert run(stage, settings, tmp_path) == 2
        assert "accelerate's file asks for FSDP, which needs GPUs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_trainer_is_configured_under_fsdp_before_there_is_an_accelerator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of accelerate is MULTI_GPU until the trainer makes its Accelerator; here it is only said to be."""
    from accelerate.utils import DistributedType
    from trl import SFTConfig

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr("codeshell_hf.align.trainer_config.check_launch", lambda *_, **__: None)

    class LaunchedConfig(SFTConfig):
        def __post_init__(self) -> None:
            super().__post_init__()
            monkeypatch.setattr(self.distributed_state, "distributed_type", DistributedType.MULTI_GPU)

    settings = AlignmentSettings(model=Path(bundled()), output=tmp_path / "out", precision="float32")
    config = make_trainer_config(LaunchedConfig, settings, Work(tmp_path))

    assert config.distributed_state.distributed_type.value == "MULTI_GPU"


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp2", "zero3"])
def test_accelerate_reads_its_files(name: str) -> None:
    path = ROOT / "recipes" / "accelerate" / f"{name}.yaml"

    config = load_config_from_file(str(path))

    kinds = {"cpu": "NO", "ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED"}
    assert config.distributed_type.value == kinds[name]
    assert config.to_dict().items() >= {"num_machines": 1, "machine_rank": 0}.items()
    if name == "fsdp2":
        assert [config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"]] == CodeShellForCausalLM._no_split_modules


# Bad input

# Stage, changes, exit code, message
BAD: dict[str, tuple[str, dict[str, object], int, str]] = {
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
    "no pair came": ("preferences", {"model": "HOME/base"}, 2, "there is no pair"),
    "no such backend": ("preferences", {"sandbox": "docker"}, 2, "sandbox"),
    "no key": (
        "preferences",
        {"prompts": ["HOME/bare.jsonl"], "judge": {"url": "http://x", "model": "m", "token_variable": "NO_SUCH_KEY"}},
        2,
        "judge.token_variable is NO_SUCH_KEY, which is not set",
    ),
    "tools without a loop": ("rlhf", {"environment": {}}, 2, "TRL's tools, which rloo does not have; set method: grpo"),
    "tools that are not measured": (
        "rlhf",
        {"method": "grpo", "environment": {}, "measure": {"prompts": ["HOME/bare.jsonl"], "max_new_tokens": 8}},
        2,
        "measure answers without tools; set measure: null",
    ),
    "no beta": ("rlhf", {"method": "grpo", "trainer": {"beta": ...}}, 2, "trainer.beta is not given"),
    "no weight": ("rlhf", {"rewards": [{"kind": "format", "weight": 0}]}, 2, "every reward has weight 0"),
    "twice": ("rlhf", {"rewards": [{"kind": "format"}] * 2}, 2, "give each once"),
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


@pytest.fixture(scope="session")
def broken(aligned: Path) -> Path:
    """The same place, with files and models in it that cannot be used."""
    (aligned / "hollow").mkdir()
    write_lines(aligned / "equal.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "a"}])
    write_lines(aligned / "bare.jsonl", [{"prompt": question, "completion": "-"} for question in QUESTIONS])
    shutil.copytree(aligned / "reward" / "model", aligned / "broken")
    model = CodeShellForSequenceClassification.from_pretrained(aligned / "broken")
    model.score.weight.data.fill_(math.nan)
    model.save_pretrained(aligned / "broken")
    return aligned


def change_settings(settings: dict[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Changes keys, and within a section keys of it; `...` takes one out."""
    changed = dict(settings)
    for key, value in changes.items():
        section = changed.get(key)
        if isinstance(value, dict) and isinstance(section, dict):
            changed[key] = {inner: given for inner, given in {**section, **value}.items() if given is not ...}
        else:
            changed[key] = value
    return changed


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    stage, changes, code, message = BAD[name]
    output = tmp_path / "out"
    plain = {
        "sft": sft_settings(broken, output),
        "reward": pair_settings(broken, output, max_steps=1),
        "preferences": {
            **preferences_settings(broken, output),
            "sample": {"per_prompt": 2, "max_new_tokens": 4},
            "sandbox": "none",
        },
        "rlhf": {**rlhf_settings(broken, output), "measure": None, "sandbox": "none"},
    }[stage]
    settings = json.loads(json.dumps(change_settings(plain, changes)).replace("HOME", str(broken)))
    capsys.readouterr()

    given = run(stage, settings, tmp_path)

    complaint = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{stage}: error: ")]
    assert given == code
    assert len(complaint) == 1
    assert message.replace("HOME", str(broken)) in complaint[0]
    assert not output.exists()


def test_the_recipes_know_the_backends_of_the_sandbox() -> None:
    annotation = SandboxSettings.model_fields["sandbox"].annotation

    assert getattr(annotation, "__args__", ()) == BACKENDS


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
    "measure.prompts",
    "measure.max_new_tokens",
    "sandbox",
    "trainer.max_steps",
    "trainer.per_device_train_batch_size",
    "trainer.per_device_eval_batch_size",
    "trainer.gradient_accumulation_steps",
}


def list_systems() -> list[ParameterSet]:
    """All of them, one of the slowest kind among the fast tests."""
    names = {path: f"{path.parent.name}-{path.stem}" for path in SYSTEMS}
    return [
        pytest.param(path, id=names[path], marks=[] if names[path] in FAST else pytest.mark.slow) for path in SYSTEMS
    ]


@pytest.mark.parametrize("path", list_systems())
def test_every_systems_recipe_takes_two_steps(aligned: Path, tmp_path: Path, path: Path) -> None:
    """As committed, with another model, other data and other batch sizes, and nothing else."""
    name = path.stem.split("-")[0]
    stage = get_stage(name)
    given = read_yaml(path)
    changes = {"output": f"{tmp_path}/out", "model": f"{aligned}/sft/model"}
    changes |= {key: f"[{aligned}/{key}.jsonl]" for key in ("conversations", "prompts", "pairs") if key in given}
    changes |= {"files": f"[{aligned}/pairs.jsonl]"} if "files" in given else {}
    changes |= {"held_out_prompts": f"[{aligned}/prompts.jsonl]"} if "held_out_prompts" in given else {}
    if given.get("measure"):
        changes |= {"measure.prompts": f"[{aligned}/prompts.jsonl]", "measure.max_new_tokens": "24"}
    changes |= {"sandbox": BACKEND} if "sandbox" in given else {}
    changes |= {"held_out_fraction": "0.34"} if "held_out_fraction" in given else {}
    if "trainer" in given:
        answers = given["trainer"].get("num_generations", 2)
        changes |= {"trainer.max_steps": "2", "trainer.gradient_accumulation_steps": "1"}
        changes |= {f"trainer.per_device_{kind}_batch_size": str(answers) for kind in ("train", "eval")}
    if "rewards" in given:
        moved = [
            {**reward, **({"path": f"{aligned}/reward/model"} if reward["kind"] == "model" else {})}
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

    manifest = read_output(tmp_path / "out")
    assert manifest.counts.get("steps", 2) == 2
    if name in ("rlhf", "dpo"):
        assert given["measure"] is not None
        assert {"tests", "model"} & manifest.measures["measured"].keys(), "a judge"
    if name == "rlhf":
        assert any(not reward.get("weight", 1.0) for reward in given["rewards"]), "a judge that is not trained on"
    if "trainer" in given:
        tuned = load_file(tmp_path / "out" / "model" / "model.safetensors")
        start = load_file(aligned / "sft" / "model" / "model.safetensors")
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
