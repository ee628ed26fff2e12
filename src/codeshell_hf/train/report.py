"""What a run prints of itself at its start, and what a finished one comes to."""

from collections.abc import Sequence
from dataclasses import dataclass

from .attention_choice import describe_trials
from .engine import Engine
from .ranks import Ranks
from .run_log import Entry
from .settings import BatchSettings
from .sharding import Sharding

AVERAGED_STEPS = 20


@dataclass(frozen=True)
class Report:
    """Figures for the manifest, and lines to print."""

    counts: dict[str, object]
    measures: dict[str, object]
    lines: list[str]


def describe_rounding(batch: BatchSettings, step_tokens: int, ranks: int) -> str:
    """A line on steps of another size than requested."""
    return (
        f"batch.global_tokens {batch.global_tokens:,} are not a multiple of {ranks} x {batch.micro_tokens:,}: "
        f"steps have {step_tokens:,}"
    )


def describe_start(parameters: int, engine: Engine, sharding: Sharding, ranks: Ranks, steps: int, tokens: int) -> str:
    """A line on what is trained and how, in so many steps of so many tokens."""
    return (
        f"{parameters:,} parameters by {sharding if ranks.count > 1 else 'one process'} ({engine}), "
        f"{steps:,} steps of {tokens:,} tokens on {ranks.count} {ranks.device.type} process"
        f"{'es' if ranks.count > 1 else ''}, attention by {engine.attention}"
        + (f" ({describe_trials(engine.attention_trials)})" if engine.attention_trials else "")
    )


def summarize_run(
    entries: Sequence[Entry], *, epochs: float, held_out_documents: int, skipped_steps: int, attention: str
) -> Report:
    """Summarizes a run's log: losses, held-out bits per byte over so many documents, speed."""
    steps = [entry for entry in entries if "loss" in entry]
    bits = [entry["bits_per_byte"] for entry in entries if "bits_per_byte" in entry]
    tokens, seconds = steps[-1]["tokens"], steps[-1]["elapsed_s"]
    first, last = steps[0]["loss"], [entry["loss"] for entry in steps[-AVERAGED_STEPS:]]
    last_loss = sum(last) / len(last)
    speed = round(tokens / seconds, 1) if seconds else None
    training = f"loss {first:.3f} -> {last_loss:.3f} over {tokens:,} tokens ({epochs:.2f} epochs)"
    lines = [f"{training} at {speed or 0:,.0f} tokens/s"]
    if skipped_steps:
        lines.append(f"{skipped_steps} steps were skipped because of their gradient norms")
    lines.append(f"held-out bits per byte {bits[0]['all']:.3f} -> {bits[-1]['all']:.3f}")
    counts: dict[str, object] = {
        "steps": steps[-1]["step"],
        "tokens": tokens,
        "epochs": round(epochs, 4),
        "held_out_documents": held_out_documents,
        "skipped_steps": skipped_steps,
        "attention": attention,
    }
    measures: dict[str, object] = {
        "loss_first": first,
        "loss_last": last_loss,
        "bits_per_byte_before": bits[0],
        "bits_per_byte_after": bits[-1],
        "tokens_per_s": speed,
        "training_s": round(seconds, 1),
    }
    return Report(counts, measures, lines)
