"""Figures as SVG, legible on light and dark backgrounds."""

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..manifest import Values
from ..text.intervals import share_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#808080"
COLOURS = ("#2f7ed8", "#c76f16", "#2f9464", "#b05fc4")  # three to one against white and against #14171f
WIDTH = 4.2  # inches, so that text has eleven pixels on a phone of 390
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
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        tokens = [entry["tokens"] / 1e6 for entry in steps]
        losses = [entry["loss"] for entry in steps]
        axes.plot(tokens, losses, color=COLOURS[0], alpha=0.25, linewidth=0.8)
        means = zip(tokens, running_mean(losses, 50), strict=True)
        plot_points(axes, means, color=COLOURS[0], linewidth=1.6, label="training loss (nats per token)")
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
                place = (previous["tokens"] / 1e6, 0.03)
                label = f"rows of {entry['row_tokens']} tokens "
                axes.annotate(label, place, xycoords=("data", "axes fraction"), fontsize=8, ha="right")
        axes.set_xlabel("million tokens")
        axes.set_ylabel("nats per token, or bits per byte")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    return figure


def plot_points(axes: "Axes", points: Iterable[tuple[float, float]], **style: Any) -> None:
    """Draws a line through points; a single one, through which there is no line, as a dot."""
    found = list(points)
    dot: dict[str, Any] = {"marker": "o", "markersize": 5} if len(found) == 1 else {}
    if found:
        axes.plot(*zip(*found, strict=True), **dot, **style)


def note_if_empty(axes: "Axes") -> None:
    """Writes into a panel without points that nothing was logged."""
    if not axes.lines:
        axes.set_yticks([])
        axes.annotate("nothing was logged", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=8)


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
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        rates = zip(tokens, [entry["learning_rate"] for entry in steps], strict=True)
        plot_points(above, rates, color=COLOURS[0])
        above.set_ylabel("learning rate")
        lengths = zip(tokens, [entry["row_tokens"] for entry in steps], strict=True)
        plot_points(below, lengths, color=COLOURS[1], drawstyle="steps-post")
        below.set_ylabel("tokens in a row")
        below.set_xlabel("million tokens")
        for axes in (above, below):
            axes.set_ylim(bottom=0)
    return figure


def draw_funnel(counts: Values) -> Figure:
    """Draws the documents that curation dropped, by reason; its title has those read and kept."""
    rows = sorted(counts["dropped"].items(), key=lambda item: item[1])
    before, after = counts["documents_before"], counts["documents_after"]
    share = f" ({100 * after / before:.1f} %)" if before else ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.barh([name for name, _ in rows], [count for _, count in rows], color=COLOURS[1])
        for place, (_, count) in enumerate(rows):
            axes.annotate(
                f"{count:,}", (count, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_title(f"{before:,} read, {after:,} kept{share}", fontsize=9, color=INK, loc="left")
        axes.set_xlim(0, 1.18 * max((count for _, count in rows), default=1))
        axes.set_xlabel("files dropped" if rows else "files dropped: none")
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
        figure = Figure(figsize=(WIDTH, 1.2 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(names, values, xerr=errors, color=COLOURS[0], ecolor=INK, capsize=3, height=0.55)
        axes.axvline(baseline, color=COLOURS[1], linestyle=":", linewidth=1.4, label="byte trigram")
        axes.set_xlabel("bits per byte of held-out files, 95 % intervals")
        axes.set_xlim(left=0)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
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
        figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(shown)), layout="constrained")
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
        axes.xaxis.set_major_formatter("{x:g}")  # powers in superscript would be too small to read
        low, high = axes.get_xlim()
        axes.xaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
        axes.set_xlabel("MB, on a logarithmic scale")
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
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
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        held_out = "eval_token_loss" if any("eval_token_loss" in entry for entry in history) else "eval_loss"
        for key, label, colour in (("loss", "training", COLOURS[0]), (held_out, "held-out", COLOURS[1])):
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
        note_if_empty(axes)
        axes.set_xlabel("step")
        axes.set_ylabel("loss on answers (nats per token)")
        axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    return figure


def draw_calibration(groups: Sequence[Values]) -> Figure:
    """Draws a reward model's accuracy over its confidence, for groups with `sure`, `right` (0 to 1) and `pairs`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0.5, 1], [0.5, 1], color=INK, linestyle=":", linewidth=1)
        ends = [share_interval(round(group["right"] * group["pairs"]), group["pairs"]) for group in groups]
        for group, (low, high) in zip(groups, ends, strict=True):
            place = (group["sure"], group["right"])
            # Wilson's interval of none or all ends a rounding error inside of the share.
            reach = [[max(0.0, group["right"] - low)], [max(0.0, high - group["right"])]]
            axes.errorbar(*place, yerr=reach, color=COLOURS[0], ecolor=INK, marker="o", markersize=5, capsize=3)
            label = f"{group['pairs']} pairs"
            axes.annotate(
                label, (group["sure"], high), xytext=(0, 4), textcoords="offset points", fontsize=8, ha="center"
            )
        axes.set_xlabel("confidence")
        axes.set_ylabel("share ordered rightly, 95 % interval")
        axes.set_xlim(0.44, 1.06)
        axes.set_ylim(min([0.48, *(low - 0.05 for low, _ in ends)]), 1.1)
    return figure


def draw_rewards(history: Sequence[Values], names: Sequence[str]) -> Figure:
    """Draws an RL trainer's log: the named rewards, KL to the reference, answer length."""
    curves = [("reward", "in all"), *((f"rewards/{name}/mean", name) for name in names)]
    panels = {
        "mean reward": curves,
        "KL (nats per token)": [("kl", "")],
        "answer (tokens)": [("completions/mean_length", "")],
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        grid = figure.subplots(len(panels), 1, sharex=True, height_ratios=[2, 1, 1])
        for axes, (title, lines) in zip(grid, panels.items(), strict=True):
            for (key, label), colour in zip(lines, (*COLOURS, INK), strict=False):
                points = [(entry["step"], float(entry[key])) for entry in history if key in entry]
                plot_points(axes, points, color=colour, linewidth=1.4, label=label)
            note_if_empty(axes)
            axes.set_ylabel(title, fontsize=8)
            if len(lines) > 1 and axes.lines:
                axes.legend(frameon=False, fontsize=8)
        grid[-1].set_xlabel("step")
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
