"""Says what a pretraining run takes before it is started: memory by part, steps, tokens a second, days.

python -m recipes.plan recipes/codeshell-7b/pretrain.yaml gpus=128 gpu=a100-80g accelerate=recipes/accelerate/fsdp2.yaml
python -m recipes.plan recipes/codeshell-small/pretrain.yaml gpus=8 gpu=h100-80g mfu=0.45

gpus, gpu (a100-40g, a100-80g, h100-80g, h200-141g, b200-180g) and mfu (the share of the peak that is expected, causal
attention counted once) are the plan's own; every other section.key=value changes the recipe, as it would the run.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeshell_hf.stages.process import make_parser, run

if TYPE_CHECKING:
    from codeshell_hf import CodeShellConfig
    from codeshell_hf.train.memory import Layout
    from codeshell_hf.train.throughput import Device

OWN = {"gpus": "8", "gpu": "a100-80g", "mfu": "0.4"}
DAY_S = 86_400
PARTS = ("weights", "gradients", "moments", "gathered", "activations", "logits")


def main(arguments: list[str] | None = None) -> int:
    """Prints the plan.

    Args:
        arguments: The command line; by default this process's.

    Returns:
        0 for a plan, 2 for one that cannot be.
    """
    parser = make_parser("plan", __doc__)
    parser.add_argument("settings", type=Path, help="such as recipes/codeshell-7b/pretrain.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="gpus, gpu, mfu, or a setting of the recipe")
    options = parser.parse_args(arguments)

    def work() -> None:
        given = dict(option.partition("=")[::2] for option in options.overrides)
        own = {name: given.pop(name, value) for name, value in OWN.items()}
        print("\n".join(plan(options.settings, own, [f"{key}={value}" for key, value in given.items()])))

    return run("plan", work)


def plan(path: Path, own: dict[str, str], overrides: list[str]) -> list[str]:
    """Works the plan out.

    Args:
        path: A pretraining recipe.
        own: `gpus`, `gpu` and `mfu`.
        overrides: Changes of the recipe.

    Returns:
        Lines to print.

    Raises:
        SettingsError: If a value is no number, or the run does not fit into the GPUs; with what would.
    """
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.settings import load_settings
    from codeshell_hf.train.memory import RESERVED_GB, Layout, estimate_memory
    from codeshell_hf.train.schedule import fit_batch, place_phases
    from codeshell_hf.train.throughput import cost_token
    from recipes.launcher import read_sharding
    from recipes.pretraining import Settings

    settings = load_settings(Settings, path, overrides)
    gpus, device, mfu = read_own(own)
    config = read_config(settings)
    asked, precision = read_sharding(settings.accelerate, precision=settings.precision)
    if gpus % asked.replicas:
        raise SettingsError(f"gpus is {gpus}, which {asked.replicas} replicas do not divide; set a multiple")
    layout = Layout(
        kind=asked.kind,
        stage=asked.stage,
        ranks=gpus,
        replicas=asked.replicas,
        micro_tokens=settings.batch.micro_tokens,
        is_bf16=precision != "float32",  # every known GPU is fast in bfloat16,
        recomputes=settings.gradient_checkpointing,
        offloads=asked.offloads,
    )
    lengths = [phase.row_tokens for phase in settings.schedule.phases]
    memory = estimate_memory(config, layout)
    room = device.gigabytes - RESERVED_GB
    if memory.total / 1e9 > room:
        biggest = max(PARTS, key=lambda part: getattr(memory, part))
        raise SettingsError(
            f"{asked} needs {memory.total / 1e9:,.1f} GB a GPU where {own['gpu']} leaves {room:.1f} ({biggest}: "
            f"{getattr(memory, biggest) / 1e9:,.1f} GB); {suggest(config, layout, room, row=max(lengths))}"
        )

    step = fit_batch(
        settings.batch.global_tokens, micro_tokens=settings.batch.micro_tokens, row_lengths=lengths, ranks=gpus
    )
    total = settings.schedule.total_tokens
    shares = [(phase.until_fraction, phase.row_tokens) for phase in settings.schedule.phases]
    placed = place_phases(shares, total_tokens=total, step_tokens=step)
    kind = f"{gpus} x {own['gpu']} ({device.tflops:.0f} TFLOP/s in bfloat16, {device.gigabytes:.1f} GB)"
    lines = [
        f"{count_parameters(config):,} parameters by {asked} on {kind}",
        "",
        "memory of a GPU in GB, at its fullest",
        *(f"  {part:<14}{getattr(memory, part) / 1e9:>9.2f}" for part in PARTS),
        f"  {'all':<14}{memory.total / 1e9:>9.2f} of {room:.1f}, {RESERVED_GB:.0f} being left to driver and allocator",
        "",
    ]
    if step != settings.batch.global_tokens:
        lines.append(f"a step of {settings.batch.global_tokens:,} tokens does not divide: {step:,} are taken")
    passes = step // (settings.batch.micro_tokens * gpus)
    lines.append(
        f"{-(-total // step):,} steps of {step:,} tokens: {gpus} GPUs x {passes} forward passes of "
        f"{settings.batch.micro_tokens:,} tokens"
    )
    seconds = 0.0
    ends = [start for start, _ in placed[1:]] + [total]
    for (start, row_tokens), end in zip(placed, ends, strict=True):
        cost = cost_token(config, row_tokens)
        # A recomputed forward pass is work, and no part of what MFU counts.
        speed = mfu * device.tflops * 1e12 / cost.causal / (4 / 3 if settings.gradient_checkpointing else 1)
        seconds += (end - start) / (speed * gpus)
        lines.append(
            f"rows of {row_tokens:,}: {(end - start) / 1e9:,.2f} billion tokens at {speed:,.0f} tokens/s a GPU and "
            f"{speed * gpus:,.0f} in all, for a share of {mfu:.0%} of the peak"
        )
    lines.append(f"{seconds / DAY_S:,.1f} days, {seconds * gpus / 3600:,.0f} GPU hours")
    return lines


def read_own(own: dict[str, str]) -> "tuple[int, Device, float]":
    """Reads what is the plan's own.

    Args:
        own: `gpus`, `gpu` and `mfu`.

    Returns:
        How many, of which kind, and the share of the peak.

    Raises:
        SettingsError: If one is no number or unknown.
    """
    from codeshell_hf.errors import SettingsError
    from codeshell_hf.settings import unknown_key
    from codeshell_hf.train.throughput import DEVICES

    if own["gpu"] not in DEVICES:
        raise SettingsError(unknown_key(own["gpu"], DEVICES, "gpu"))
    if not own["gpus"].isdigit() or int(own["gpus"]) < 1:
        raise SettingsError(f"gpus is {own['gpus']}; set it to a whole number from 1")
    try:
        mfu = float(own["mfu"])
    except ValueError:
        mfu = 0.0
    if not 0 < mfu <= 1:
        raise SettingsError(f"mfu is {own['mfu']}; set it to a share above 0 and up to 1, such as 0.4")
    return int(own["gpus"]), DEVICES[own["gpu"]], mfu


def read_config(settings: Any) -> "CodeShellConfig":
    """Makes the configuration without the shards, which may lie elsewhere.

    Args:
        settings: Of pretraining.

    Returns:
        The architecture.
    """
    from recipes.pretraining import make_config

    return make_config(settings, end_of_text=0, vocab_size=0)


def suggest(config: "CodeShellConfig", layout: "Layout", room: float, *, row: int) -> str:
    """Looks for the nearest layout that fits.

    Args:
        config: The architecture.
        layout: One that does not.
        room: Gigabytes that there are.
        row: The longest, which a forward pass holds whole.

    Returns:
        What to change.
    """
    from codeshell_hf.train.memory import estimate_memory

    smaller = [layout.micro_tokens // part for part in (1, 2, 4, 8, 16) if layout.micro_tokens // part >= row]
    kinds = [(layout.kind, layout.stage), ("zero", 3), ("fsdp2", 3)]
    names = {"zero": "zero3.yaml", "fsdp2": "fsdp2.yaml"}
    for ranks in (layout.ranks, 2 * layout.ranks, 4 * layout.ranks, 8 * layout.ranks, 16 * layout.ranks):
        for kind, stage in kinds:
            for recomputes in (layout.recomputes, True):
                for micro in smaller:
                    other = replace(
                        layout, kind=kind, stage=stage, ranks=ranks, recomputes=recomputes, micro_tokens=micro
                    )
                    if estimate_memory(config, other).total / 1e9 > room:
                        continue
                    mends = []
                    if (kind, stage) != (layout.kind, layout.stage):
                        mends.append(f"accelerate=recipes/accelerate/{names[kind]}")
                    if recomputes != layout.recomputes:
                        mends.append("gradient_checkpointing=true")
                    if micro != layout.micro_tokens:
                        mends.append(f"batch.micro_tokens={micro}")
                    if ranks != layout.ranks:
                        mends.append(f"gpus={ranks}")
                    return "it fits with " + " ".join(mends)
    return "nothing of recipes/accelerate makes it fit; take more GPUs, or ones with more memory"


if __name__ == "__main__":
    sys.exit(main())
