"""Detection of harm: the trained reward rises while no judge does, or answers get worse."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from ..text.intervals import Change
from .reward_measurement import FINISHED, WEIGHTED, RewardMeasurement

NEAR_BEST = 0.05
"""A judge that begins this close to its highest value cannot rise, and says nothing unless it falls."""


def find_hacked_judges(changes: Mapping[str, Change], judges: Mapping[str, float]) -> list[str]:
    """Names the judges whose gain is not above zero while the trained reward rose: reward hacking.

    Both are judged with 95 % confidence.

    Args:
        changes: By reward, that of the trained sum included.
        judges: Rewards that were not trained on, each with its highest value.

    Source:
        Gao et al. 2022, arXiv:2210.10760, on reward over-optimisation.
    """
    trained = changes.get(WEIGHTED)
    if trained is None or trained.low <= 0:
        return []
    return sorted(
        name
        for name, best in judges.items()
        if name in changes and changes[name].low <= 0 and not _is_full(changes[name], best)
    )


def _is_full(change: Change, best: float) -> bool:
    return change.before >= best - NEAR_BEST and change.high >= 0


def find_harm(changes: Mapping[str, Change], judges: Iterable[str]) -> list[str]:
    """Names what fell with 95 % confidence: judges, and the share of answers that end their turn."""
    return sorted(name for name in {*judges, FINISHED} if name in changes and changes[name].high < 0)


def describe_changes(changes: Mapping[str, Change], judges: Mapping[str, float]) -> list[str]:
    """A line for each change, and a warning for a hacked reward, for harm, and if no judge would see them."""
    roles = {WEIGHTED: "trained reward ", **dict.fromkeys(judges, "held-out judge ")}
    lines = [f"{roles.get(name, '')}{name}: {change}" for name, change in changes.items()]
    harm = find_harm(changes, judges)
    if hacked := find_hacked_judges(changes, judges):
        fates = ", ".join(f"{name} {'fell' if name in harm else 'did not rise'}" for name in hacked)
        lines.append(
            f"reward hacking: the trained reward rose while {fates}; raise trainer.beta, train less, or correct the "
            "reward"
        )
    if other := [name for name in harm if name not in hacked]:
        lines.append(
            f"harm: {', '.join(f'{name} fell by {changes[name].before - changes[name].after:.3f}' for name in other)}; "
            "train less, at a lower rate, or with more weight on the SFT loss"
        )
    if WEIGHTED in changes and not judges:
        lines.append("no judge: nobody would see a hacked reward; add a reward of weight 0 that it cannot fool")
    return lines


def describe_copies(changes: Mapping[str, Change]) -> list[str]:
    """A line for each reward of copied answers, compared with the trained model's."""
    return [f"copying the nearest tuned answer -> the model: {name}: {change}" for name, change in changes.items()]


def summarize_changes(
    measurement: RewardMeasurement, judges: Mapping[str, float]
) -> tuple[dict[str, object], list[str]]:
    """What training changed in measured rewards, for a stage's manifest and its report; empty if none was measured."""
    measures: dict[str, object] = {}
    lines: list[str] = []
    if changes := measurement.compare():
        measures["measured"] = {name: asdict(change) for name, change in changes.items()}
        if WEIGHTED in changes:
            measures["reward_hacking"] = find_hacked_judges(changes, judges)
        measures["harm"] = find_harm(changes, judges)
        lines += describe_changes(changes, judges)
    if copies := measurement.compare_with_copies():
        measures["against_copies"] = {name: asdict(change) for name, change in copies.items()}
        lines += describe_copies(copies)
    return measures, lines
