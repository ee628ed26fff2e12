"""What a card says a model was trained on: the stages that it comes from, and the data that they used."""

from pathlib import Path

import pytest

from codeshell_hf.manifest import Manifest, Values
from codeshell_hf.publish.lineage import (
    describe_data,
    describe_making,
    describe_training,
    find_base_model,
    list_datasets,
    order_models,
    trace_lineage,
)


def make(stage: str, counts: Values | None = None, **settings: object) -> Manifest:
    return Manifest(stage, "f", {}, {"output": f"runs/x/{stage}", **settings}, "c", counts=counts or {})


RUN = {
    "pretrain": make("pretrain", {"tokens": 348160, "steps": 170, "epochs": 0.0668}, model={"start_from": None}),
    "sft": make("sft", {"conversations": 919, "steps": 484, "epochs": 2.0}, model="runs/x/pretrain/model"),
    "reward": make("reward", {"pairs": 841, "steps": 53, "epochs": 1.0}, model="runs/x/sft/model"),
    "rlhf": make("rlhf", {"prompts": 400, "steps": 3, "epochs": 0.06}, model="runs/x/sft/model"),
    "dpo": make("dpo", {"pairs": 821, "steps": 24, "epochs": 0.4615}, model="runs/x/sft/model"),
}


@pytest.mark.parametrize(
    ("model", "lineage"),
    [
        ("runs/x/rlhf/model", ["pretrain", "sft", "rlhf"]),  # dpo and reward lie beside it
        ("runs/x/dpo/model", ["pretrain", "sft", "dpo"]),
        ("runs/x/pretrain/model", ["pretrain"]),
        (f"{Path.cwd()}/runs/x/sft/model", ["pretrain", "sft"]),
        ("runs/x/sft-other/model", []),
        ("elsewhere", []),
    ],
)
def test_only_the_stages_that_trained_a_model_are_its_own(model: str, lineage: list[str]) -> None:
    assert trace_lineage(RUN, model) == lineage


def test_a_model_that_was_trained_in_a_circle_ends() -> None:
    circle = {
        "sft": make("sft", model="runs/x/dpo/model"),
        "dpo": make("dpo", model="runs/x/sft/model"),
    }

    assert sorted(trace_lineage(circle, "runs/x/dpo/model")) == ["dpo", "sft"]


@pytest.mark.parametrize(
    ("stage", "counts", "said"),
    [
        ("rlhf", {"prompts": 400, "epochs": 0.06}, "24 of 400 prompts"),
        ("rlhf", {"prompts": 400, "epochs": 0.0001}, "1 of 400 prompts"),
        ("rlhf", {"prompts": 400, "epochs": 1.0}, "400 prompts"),
        ("rlhf", {"prompts": 400}, "at most 400 prompts"),
        ("sft", {"conversations": 1200, "epochs": 2.0}, "1,200 conversations, 2 times each"),
        ("dpo", {"pairs": 8, "epochs": 1.25}, "8 pairs, 1.25 times each"),
        ("pretrain", {"tokens": 348160, "epochs": 0.0668}, "348,160 tokens, 6.7 % of the corpus"),
        ("pretrain", {"tokens": 1000, "epochs": 3.5}, "1,000 tokens, 3.5 passes over the corpus"),
        ("pretrain", {"tokens": 1000}, "1,000 tokens"),
    ],
)
def test_what_was_used_is_said_and_not_what_lay_in_files(stage: str, counts: Values, said: str) -> None:
    assert describe_data(stage, counts) == said


def test_training_names_steps_precision_device_seconds_date_and_commit() -> None:
    origin = {"date": "2026-01-02T03:04:05Z", "device": "8 x H100", "commit": "abc", "repository": "https://x/y"}
    manifest = Manifest(
        "sft", "f", {}, {}, "c", counts={"conversations": 3, "steps": 7, "epochs": 1.0}, wall_s=12.5,
        precision={"compute_dtype": "bfloat16", "device": "cuda"}, origin=origin,
    )  # fmt: skip

    assert describe_training({"sft": manifest}, ["sft"]) == [
        {
            "stage": "sft", "steps": 7, "data": "3 conversations", "precision": "bfloat16", "device": "8 x H100",
            "seconds": 12.5, "date": "2026-01-02", "commit": "abc", "repository": "https://x/y",
        }
    ]  # fmt: skip
    old = Manifest("curate", "f", {}, {}, "c", precision={"device": "cpu"})
    assert describe_making(old) == {
        "precision": "", "device": "cpu", "seconds": 0.0, "date": "", "commit": "", "repository": "",
    }  # fmt: skip


def test_models_are_in_the_order_of_training_whatever_their_names() -> None:
    """Manifests sort their keys."""
    models = {
        "a": "runs/x/rlhf/model",
        "b": {"model": "runs/x/pretrain/model"},
        "c": "runs/x/sft/model",
        "d": "another/model",
    }

    ordered = order_models(RUN, models, {"d": 4, "a": 1, "b": 2, "c": 3})

    assert list(ordered.items()) == [("b", 2), ("c", 3), ("a", 1), ("d", 4)]


def test_data_sets_of_the_hub_are_named_and_no_others() -> None:
    run = {
        "curate": make("curate", sources=[
            {"name": "a", "kind": "hub", "path": "bigcode/the-stack@v1/data/python"},
            {"name": "b", "kind": "folder", "path": "some/folder"},
        ]),
        "sft": make("sft", conversations=["hub:owner/chats@main", "data/own.jsonl"]),
        "dpo": make("dpo", pairs=["hub:owner/pairs"]),
    }  # fmt: skip

    assert list_datasets(run, ["pretrain", "sft"], None) == ["bigcode/the-stack", "owner/chats"]
    assert list_datasets(run, [], "me/data") == ["bigcode/the-stack", "me/data"]


def test_a_base_model_is_one_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "model").mkdir(parents=True)

    def find(start: str | None, chosen: str | None = None, lineage: tuple[str, ...] = ("pretrain",)) -> str | None:
        run = {"pretrain": make("pretrain", model={"start_from": start})}
        return find_base_model(run, list(lineage), chosen)

    assert find("WisdomShell/CodeShell-7B") == "WisdomShell/CodeShell-7B"
    assert find("my/model") is None
    assert find("/some/where") is None
    assert find("runs/x/pretrain/model") is None
    assert find(None) is None
    assert find(None, "owner/base") == "owner/base"
    assert find("owner/base", lineage=()) is None
