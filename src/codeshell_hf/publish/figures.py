"""Figures as SVG, legible on light and dark backgrounds."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from ..manifest import Values

INK = "#808080"
COLOURS = ("#2f7ed8", "#d9822b", "#4caf7d", "#b05fc4")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "codeshell",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def draw_loss(entries: Sequence[Values]) -> Figure:
    """Draws a run: the loss of each step, its running mean, and bits per byte on held-out documents."""
    steps = [entry for entry in entries if "loss" in entry]
    measured = [entry for entry in entries if "bits_per_byte" in entry]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        tokens = [entry["tokens"] / 1e6 for entry in steps]
        losses = [entry["loss"] for entry in steps]
        axes.plot(tokens, losses, color=COLOURS[0], alpha=0.25, linewidth=0.8)
        axes.plot(tokens, running_mean(losses, 50), color=COLOURS[0], linewidth=1.6, label="training loss (nats)")
        axes.plot(
            [entry["tokens"] / 1e6 for entry in measured],
            [entry["bits_per_byte"]["all"] for entry in measured],
            color=COLOURS[1],
            marker="o",
            markersize=3,
            linewidth=1.2,
            label="held-out bits per byte",
        )
        for previous, entry in pairwise(steps):
            if entry["row_tokens"] != previous["row_tokens"]:
                axes.axvline(previous["tokens"] / 1e6, color=INK, linestyle=":", linewidth=1)
                axes.annotate(
                    f"rows of {entry['row_tokens']}", (previous["tokens"] / 1e6, max(losses)), fontsize=8, ha="right"
                )
        axes.set_xlabel("million tokens")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return figure


def draw_positions(entries: Sequence[Values], row_tokens: int) -> Figure:
    """Draws the loss by position in rows of `row_tokens`, before and after training on such rows."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for colour, entry in zip(COLOURS, entries, strict=False):
            losses = entry["loss_by_position"]
            places = [(place + 0.5) * row_tokens / len(losses) for place in range(len(losses))]
            label = f"after {entry['tokens'] / 1e6:,.1f} million tokens"
            axes.plot(places, losses, color=colour, marker="o", markersize=3, linewidth=1.4, label=label)
        axes.set_xlabel("position in the row")
        axes.set_ylabel("held-out loss (nats)")
        axes.legend(frameon=False)
    return figure


def save_run(entries: Sequence[Values], row_tokens: int, folder: Path) -> None:
    """Saves `loss.svg` of a run, and `positions.svg` where its log has the loss by position in rows of `row_tokens`."""
    save_figure(draw_loss(entries), folder / "loss.svg")
    if positions := [entry for entry in entries if "loss_by_position" in entry]:
        save_figure(draw_positions(positions, row_tokens), folder / "positions.svg")


def draw_runs(logs: Mapping[str, Sequence[Values]]) -> Figure:
    """Draws training loss and held-out bits per byte of several runs from their logs."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, (name, entries) in enumerate(logs.items()):
            colour = COLOURS[place % len(COLOURS)]
            steps = [entry for entry in entries if "loss" in entry]
            losses = running_mean([entry["loss"] for entry in steps], 50)
            left.plot([entry["tokens"] / 1e6 for entry in steps], losses, color=colour, linewidth=1.4, label=name)
            measured = [entry for entry in entries if "bits_per_byte" in entry]
            tokens = [entry["tokens"] / 1e6 for entry in measured]
            bits = [entry["bits_per_byte"]["all"] for entry in measured]
            right.plot(tokens, bits, color=colour, marker="o", markersize=3, linewidth=1.4, label=name)
        left.set_title("training loss (nats)", fontsize=9)
        right.set_title("held-out bits per byte", fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("million tokens")
            axes.legend(frameon=False)
    return figure


def draw_schedule(entries: Sequence[Values]) -> Figure:
    """Draws the schedules of a run: learning rate and row length."""
    steps = [entry for entry in entries if "learning_rate" in entry]
    tokens = [entry["tokens"] / 1e6 for entry in steps]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(tokens, [entry["learning_rate"] for entry in steps], color=COLOURS[0])
        left.set_title("learning rate", fontsize=9)
        right.step(tokens, [entry["row_tokens"] for entry in steps], color=COLOURS[1], where="post")
        right.set_title("tokens in a row", fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("million tokens")
            axes.set_ylim(bottom=0)
    return figure


def draw_funnel(counts: Values) -> Figure:
    """Draws documents before and after curation, and those dropped by reason."""
    rows: list[tuple[str, int, int, str]] = [("read", 0, counts["documents_before"], INK)]
    left = counts["documents_before"]
    for reason, count in sorted(counts["dropped"].items(), key=lambda item: -item[1]):
        left -= count
        rows.append((reason, left, count, COLOURS[1]))
    rows.append(("kept", 0, counts["documents_after"], COLOURS[0]))
    rows.reverse()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.5 + 0.26 * len(rows)), layout="constrained")
        axes = figure.subplots()
        places = range(len(rows))
        axes.barh(places, [row[2] for row in rows], left=[row[1] for row in rows], color=[row[3] for row in rows])
        for place, (_, start, width, _) in zip(places, rows, strict=True):
            axes.annotate(
                f"{width:,}", (start + width, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_yticks(places, [row[0] for row in rows])
        axes.set_xlim(0, counts["documents_before"] * 1.12)
        axes.set_xlabel("documents")
    return figure


def draw_evaluation(models: Mapping[str, Values], baseline: float) -> Figure:
    """Draws bits per byte of each model with its interval, beside a byte-trigram model's `baseline`."""
    names = [name for name in models if models[name].get("bits_per_byte")][::-1]
    values = [models[name]["bits_per_byte"]["all"] for name in names]
    ends = [models[name]["bits_per_byte_interval"]["all"] for name in names]
    errors = [
        [value - low for value, (low, _) in zip(values, ends, strict=True)],
        [high - value for value, (_, high) in zip(values, ends, strict=True)],
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(names, values, xerr=errors, color=COLOURS[0], ecolor=INK, capsize=3, height=0.55)
        axes.axvline(baseline, color=COLOURS[1], linestyle=":", linewidth=1.4, label="byte trigram")
        axes.set_xlabel("bits per byte on held-out files (lower is better), with 95 % intervals")
        axes.set_xlim(left=0)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_sweep(curves: Mapping[str, Sequence[tuple[int, float, float, float]]]) -> Figure:
    """Draws measures over the checkpoints of a run, one panel each; points are step, value and 95 % interval."""
    columns = 2
    rows = max(1, -(-len(curves) // columns))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.4 + 1.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        for axes, (name, points) in zip(grid.flat, curves.items(), strict=False):
            ordered = sorted(points)
            steps = [step for step, *_ in ordered]
            axes.fill_between(
                steps, [low for *_, low, _ in ordered], [high for *_, high in ordered], color=COLOURS[0], alpha=0.18
            )
            axes.plot(steps, [value for _, value, *_ in ordered], color=COLOURS[0], marker="o", markersize=3)
            axes.set_title(name, fontsize="medium")
            axes.set_xlabel("step")
    return figure


def draw_sizes(rows: Sequence[Values], *, max_rows: int = 12) -> Figure:
    """Draws bytes of each language before and after curation, on a logarithmic scale."""
    shown = [row for row in rows if row["documents_after"]][:max_rows][::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.6 + 0.28 * len(shown)), layout="constrained")
        axes = figure.subplots()
        for offset, name, colour in ((0.2, "before", INK), (-0.2, "after", COLOURS[0])):
            axes.barh(
                [place + offset for place in range(len(shown))],
                [row[f"bytes_{name}"] / 1e6 for row in shown],
                height=0.38,
                color=colour,
                label=name,
            )
        axes.set_yticks(range(len(shown)), [row["language"] for row in shown])
        axes.set_xscale("log")
        axes.set_xlabel("MB")
        axes.legend(frameon=False)
    return figure


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Means over the last `width` values, fewer at the start.

    >>> running_mean([4.0, 2.0, 0.0], 2)
    [4.0, 3.0, 1.0]
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[end] - sums[max(0, end - width)]) / (end - max(0, end - width)) for end in range(1, len(values) + 1)]


def to_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, path: Path) -> None:
    """Saves a figure as an SVG file."""
    path.write_text(to_svg(figure), encoding="utf-8")


def draw_tuning(history: Sequence[Values]) -> Figure:
    """Draws a trainer's `loss`, and `eval_token_loss` or else `eval_loss`, by step."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.subplots()
        held_out = "eval_token_loss" if any("eval_token_loss" in entry for entry in history) else "eval_loss"
        for key, label, colour in (("loss", "training", COLOURS[0]), (held_out, "held-out", COLOURS[1])):
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel("loss on answers (nats)")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return figure


def draw_calibration(groups: Sequence[Values]) -> Figure:
    """Draws a reward model's accuracy over its confidence, for groups with `sure`, `right` (0 to 1) and `pairs`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], color=INK, linestyle=":", linewidth=1)
        axes.plot([group["sure"] for group in groups], [group["right"] for group in groups], color=COLOURS[0])
        for group in groups:
            axes.scatter(group["sure"], group["right"], s=12 + group["pairs"] ** 0.5 * 4, color=COLOURS[0])
            place = (group["sure"], group["right"])
            label = f"{group['pairs']} pairs"
            axes.annotate(label, place, xytext=(0, 8), textcoords="offset points", fontsize=7, ha="center")
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.set_xlim(0.46, 1.04)
        axes.set_ylim(min(0.48, *(group["right"] - 0.05 for group in groups)), 1.08)
    return figure


def draw_rewards(history: Sequence[Values], names: Sequence[str]) -> Figure:
    """Draws an RL trainer's log: the named rewards, KL to the reference, answer length."""
    curves = [("reward", "in all"), *((f"rewards/{name}/mean", name) for name in names)]
    panels = [curves, [("kl", "KL (nats per token)")], [("completions/mean_length", "tokens")]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        for axes, lines in zip(figure.subplots(1, 3, width_ratios=[2, 1, 1]), panels, strict=True):
            for (key, label), colour in zip(lines, (*COLOURS, INK), strict=False):
                points = [(entry["step"], float(entry[key])) for entry in history if key in entry]
                if points:
                    steps, values = zip(*points, strict=True)
                    axes.plot(steps, values, color=colour, linewidth=1.4, label=label)
            axes.set_xlabel("step")
            if len(lines) > 1:
                axes.set_title("reward", fontsize=9)
                axes.legend(frameon=False, fontsize=8)
            else:
                axes.set_title(lines[0][1], fontsize=9)
    return figure


def draw_bars(rows: Sequence[Values], prefix: str) -> Figure:
    """Draws the measures of several tokenizers whose names start with `prefix`."""
    keys = [key for key in rows[0] if key.startswith(prefix)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(rows)
        for index, row in enumerate(rows):
            places = [place + (index - (len(rows) - 1) / 2) * width for place in range(len(keys))]
            colour = COLOURS[index % len(COLOURS)]
            axes.bar(places, [row[key] for key in keys], width=width, label=row["tokenizer"], color=colour)
        axes.set_xticks(range(len(keys)), [key.removeprefix(prefix) for key in keys])
        axes.set_ylabel("characters per token")
        axes.legend(frameon=False)
    return figure
