"""Detection of reward hacking: the trained reward rises while a held-out judge falls."""

from collections.abc import Iterable, Mapping, Sequence

from ..text.intervals import Change
from .reward_measurement import WEIGHTED


def find_hacked_judges(changes: Mapping[str, Change], judges: Iterable[str]) -> list[str]:
    """Names the judges that fell while the trained reward rose, both with 95 % confidence: reward hacking.

    Source:
        Gao et al. 2022, arXiv:2210.10760, on reward over-optimisation.
    """
    trained = changes.get(WEIGHTED)
    if trained is None or trained.low <= 0:
        return []
    return sorted(name for name in judges if name in changes and changes[name].high < 0)


def describe_changes(changes: Mapping[str, Change], judges: Sequence[str]) -> list[str]:
    """A line for each change, and a warning if the reward was hacked."""
    roles = {WEIGHTED: "trained reward ", **dict.fromkeys(judges, "held-out judge ")}
    lines = [f"{roles.get(name, '')}{name}: {change}" for name, change in changes.items()]
    if hacked := find_hacked_judges(changes, judges):
        lines.append(
            f"reward hacking: the trained reward rose while {', '.join(hacked)} fell; "
            "raise trainer.beta, train less, or correct the reward"
        )
    return lines
