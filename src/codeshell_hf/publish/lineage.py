"""What a published model was trained on: the stages that it comes from, and how much of their data they used."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..manifest import Manifest, Values

# What the counts of a stage call its data. The reward model is no ancestor of a policy.
DATA = {"sft": "conversations", "reward": "pairs", "rlhf": "prompts", "dpo": "pairs"}
POLICIES = ("pretrain", "sft", "rlhf", "dpo")  # in the order of training


def trace_lineage(manifests: Mapping[str, Manifest], model: str) -> list[str]:
    """The stages that trained a model, first to last.

    Args:
        manifests: Of the stages that may have, by name.
        model: Its folder, as the settings of a stage name it.
    """
    lineage: list[str] = []
    place: str | None = model
    while place and (stage := find_maker(manifests, place)) is not None and stage not in lineage:
        lineage.insert(0, stage)
        place = manifests[stage].settings.get("model") if stage != "pretrain" else None
    return lineage


def find_maker(manifests: Mapping[str, Manifest], model: str) -> str | None:
    """The training stage in whose output a model's folder lies."""
    for stage in POLICIES:
        output = manifests[stage].settings.get("output") if stage in manifests else None
        if output and Path(model).absolute().is_relative_to(Path(output).absolute()):
            return stage
    return None


def order_models(manifests: Mapping[str, Manifest], models: Mapping[str, object], measured: Values) -> Values:
    """The measured models in the order of training: base, chat, aligned; those of other origin come last.

    Args:
        manifests: Of all stages, by name.
        models: The evaluated models' folders by name, as in the settings of `evaluate`.
        measured: By the same names.
    """

    def place(name: str) -> tuple[int, int]:
        model = models.get(name)
        folder = str(model.get("model")) if isinstance(model, dict) else str(model)
        maker = find_maker(manifests, folder)
        return (POLICIES.index(maker), len(trace_lineage(manifests, folder))) if maker else (len(POLICIES), 0)

    return {name: measured[name] for name in sorted(measured, key=place)}


def describe_training(manifests: Mapping[str, Manifest], lineage: list[str]) -> list[Values]:
    """How each stage of a model's `lineage` trained it.

    Returns:
        `stage`, `steps`, `data` as a phrase, and the fields of `describe_making`.
    """
    return [
        {
            "stage": stage,
            "steps": manifests[stage].counts.get("steps"),
            "data": describe_data(stage, manifests[stage].counts),
            **describe_making(manifests[stage]),
        }
        for stage in lineage
    ]


def describe_data(stage: str, counts: Values) -> str:
    """What a stage really trained on, such as "400 conversations, 2 times each" or "24 of 400 prompts"."""
    if stage == "pretrain":
        return f"{counts['tokens']:,} tokens{_describe_passes(counts.get('epochs'), 'the corpus')}"
    kind, count = DATA[stage], counts[DATA[stage]]
    epochs = counts.get("epochs")
    if epochs is None:  # of version 0.1, which did not count them
        return f"at most {count:,} {kind}"
    if epochs < 1:
        return f"{count_used(count, epochs):,} of {count:,} {kind}"
    return f"{count:,} {kind}" + ("" if round(epochs, 2) == 1 else f", {format_count(epochs)} times each")


def _describe_passes(epochs: float | None, name: str) -> str:
    if epochs is None:
        return ""
    return f", {100 * epochs:.2g} % of {name}" if epochs < 1 else f", {format_count(epochs)} passes over {name}"


def count_used(count: int, epochs: float) -> int:
    """How many of `count` examples a run of less than one pass used; at least one.

    >>> count_used(400, 0.06)
    24
    """
    return min(count, max(1, round(count * epochs)))


def format_count(value: float) -> str:
    """A number of passes without needless digits.

    >>> format_count(2.0), format_count(1.25)
    ('2', '1.25')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def describe_making(manifest: Manifest) -> Values:
    """The `precision`, `device`, `seconds`, `date`, `commit` and `repository` of a stage, "" where it has none."""
    origin = manifest.origin
    return {
        "precision": manifest.precision.get("compute_dtype", ""),
        "device": origin.get("device") or manifest.precision.get("device", ""),
        "seconds": manifest.wall_s,
        "date": (origin.get("date") or "").partition("T")[0],
        "commit": origin.get("commit") or "",
        "repository": origin.get("repository") or "",
    }


def list_datasets(manifests: Mapping[str, Manifest], lineage: list[str], pushed: str | None) -> list[str]:
    """Data sets of the Hub that a model was trained on, sorted; `pushed` is the one that is published with it."""
    named: set[str] = {pushed} if pushed else set()
    stages = [stage for stage in ("curate", *lineage) if stage in manifests]
    for stage in stages:
        named |= {_name_dataset(place) for place in _list_hub_places(manifests[stage].settings)}
    return sorted(named)


def _list_hub_places(settings: object) -> Iterator[str]:
    """Values of settings such as `hub:owner/name@revision`, and the paths of sources of kind "hub"."""
    if isinstance(settings, dict):
        if settings.get("kind") == "hub" and isinstance(settings.get("path"), str):
            yield settings["path"]
        for value in settings.values():
            yield from _list_hub_places(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _list_hub_places(value)
    elif isinstance(settings, str) and settings.startswith("hub:"):
        yield settings.removeprefix("hub:")


def _name_dataset(place: str) -> str:
    """The repository of `owner/name@revision/folder`."""
    return "/".join(place.partition("@")[0].split("/")[:2])


def find_base_model(manifests: Mapping[str, Manifest], lineage: list[str], chosen: str | None) -> str | None:
    """The model of the Hub that training started from: the `chosen` one, or what `pretrain` started from."""
    if chosen or "pretrain" not in lineage:
        return chosen
    start = manifests["pretrain"].settings.get("model", {}).get("start_from")
    is_name = bool(start) and re.fullmatch(r"[\w.-]+/[\w.-]+", start) is not None and not Path(start).exists()
    return str(start) if is_name else None
