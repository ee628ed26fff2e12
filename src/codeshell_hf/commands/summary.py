"""The summary of a run of all stages, from their manifests."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..manifest import Manifest

TURN_END = "|<end>|"  # of the chat format, where servers and `codeshell chat` stop


def summarize(finished: Mapping[str, tuple[Path, Manifest | None]]) -> list[str]:
    """Lines on durations, improvements, a sample of the model, and where the results are."""
    manifests = {stage: manifest for stage, (_, manifest) in finished.items() if manifest is not None}
    lines = ["seconds by stage", *list_seconds(manifests)]
    if claims := list(list_claims(manifests)):
        lines += ["", "before -> after, on held-out data", *claims]
    if "publish" in manifests:
        lines += ["", *show_sample(manifests["publish"])]
        lines += ["", f"page:  {finished['publish'][0] / 'index.html'}", f"model: {finished['publish'][0] / 'model'}"]
    return lines


def list_seconds(manifests: Mapping[str, Manifest]) -> list[str]:
    """The seconds of each stage's last run, and their sum."""
    widest = max((manifest.wall_s for manifest in manifests.values()), default=0.0) or 1.0
    lines = [
        f"  {stage:<12} {manifest.wall_s:>6.0f}  {'#' * round(40 * manifest.wall_s / widest)}"
        for stage, manifest in manifests.items()
    ]
    return [*lines, f"  {'all':<12} {sum(manifest.wall_s for manifest in manifests.values()):>6.0f}"]


def list_claims(manifests: Mapping[str, Manifest]) -> Iterator[str]:
    """The improvements that stages measured, one line each."""
    if "pretrain" in manifests:
        measures = manifests["pretrain"].measures
        before, after = (measures[f"bits_per_byte_{when}"]["all"] for when in ("before", "after"))
        trigram = manifests["evaluate"].measures.get("byte_trigram_bits_per_byte") if "evaluate" in manifests else None
        beside = f"   (a byte trigram: {trigram:.3f})" if trigram else ""
        yield f"  pretrain     bits per byte of code        {before:7.3f} -> {after:.3f}{beside}"
    if "sft" in manifests:
        measures = manifests["sft"].measures
        before, after = measures["held_out_loss_before"], measures["held_out_loss_after"]
        yield f"  sft          loss on answers              {before:7.3f} -> {after:.3f}"
    if "reward" in manifests:
        accuracy = manifests["reward"].measures["held_out_accuracy"]
        yield f"  reward       prefers the better answer            {accuracy:9.1%}   (by chance: 50%)"
    for stage in ("rlhf", "dpo"):
        measured = manifests[stage].measures.get("measured", {}) if stage in manifests else {}
        for name, change in measured.items():
            if name in ("tests", "weighted"):
                yield format_claim(stage, "passes its tests" if name == "tests" else "reward that was trained", change)
        copied = manifests[stage].measures.get("against_copies", {}) if stage in manifests else {}
        if "tests" in copied:
            yield format_claim(stage, "copied answers pass -> its own", copied["tests"])


def format_claim(stage: str, what: str, change: Mapping[str, float]) -> str:
    """A line on a change with its interval."""
    interval = f"{change['after'] - change['before']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
    return f"  {stage:<12} {what:<30} {change['before']:5.3f} -> {change['after']:.3f}   ({interval})"


def show_sample(publish: Manifest) -> list[str]:
    """The published model's first chat answer, or else its first completion."""
    samples, texts = publish.settings["samples"], publish.measures["texts"]
    if not samples:
        return []
    number = next((index for index, sample in enumerate(samples) if sample["kind"] == "chat"), 0)
    is_chat, prompt, text = samples[number]["kind"] == "chat", samples[number]["prompt"], texts[number]
    shown = text.partition(TURN_END)[0] if is_chat else prompt + text
    title = f"the published model, asked: {prompt}" if is_chat else "the published model, continuing its prompt"
    return [title, *(f"  | {line}" for line in shown.splitlines())]
