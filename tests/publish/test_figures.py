"""Curves are deterministic and readable."""

import re
from pathlib import Path

import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from codeshell_hf.manifest import Values
from codeshell_hf.publish.figures import (
    COLOURS,
    draw_calibration,
    draw_evaluation,
    draw_funnel,
    draw_loss,
    draw_rewards,
    draw_schedule,
    draw_sizes,
    draw_tuning,
    running_mean,
    save_run,
    to_svg,
)


def test_curves_are_the_same_every_time_and_carry_their_text() -> None:
    entries: list[Values] = [
        {"step": step, "tokens": 1000 * step, "loss": 8 / step, "row_tokens": 8 if step < 50 else 16}
        for step in range(1, 80)
    ]
    entries.append({"step": 79, "tokens": 79000, "bits_per_byte": {"all": 2.0}})

    first, second = (to_svg(draw_loss(entries)) for _ in range(2))

    assert first == second
    assert "rows of 16" in first
    assert running_mean([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]


def test_a_run_has_the_figure_of_positions_only_where_its_log_has_them(tmp_path: Path) -> None:
    steps: list[Values] = [{"step": 1, "tokens": 8, "loss": 2.0, "row_tokens": 8}]
    measured: list[Values] = [{"step": 1, "tokens": 8, "loss_by_position": [3.0, 2.0]}]

    for name, entries in (("short", steps), ("long", steps + measured)):
        (tmp_path / name).mkdir()
        save_run(entries, 8, tmp_path / name)

    assert [path.name for path in (tmp_path / "short").iterdir()] == ["loss.svg"]
    assert sorted(path.name for path in (tmp_path / "long").iterdir()) == ["loss.svg", "positions.svg"]


STEP: Values = {"step": 1, "tokens": 2048, "loss": 5.0, "learning_rate": 1e-3, "row_tokens": 256}
REWARD: Values = {"step": 5, "reward": 0.5, "rewards/tests/mean": 0.25, "kl": 0.01, "completions/mean_length": 17.0}
MODEL: Values = {"bits_per_byte": {"all": 2.0}, "bits_per_byte_interval": {"all": [1.5, 3.0]}}
COUNTS: Values = {"documents_before": 1000, "documents_after": 990, "dropped": {"empty": 7, "long-lines": 3}}
LANGUAGE: Values = {"language": "python", "documents_after": 9, "bytes_before": 2e6, "bytes_after": 1e6}
OF_THE_PAGE = {
    "loss": draw_loss([STEP, {"step": 1, "tokens": 2048, "bits_per_byte": {"all": 2.0}}]),
    "schedule": draw_schedule([STEP]),
    "funnel": draw_funnel(COUNTS),
    "sizes": draw_sizes([LANGUAGE]),
    "evaluation": draw_evaluation({"base": MODEL, "chat": MODEL}, 3.2),
    "tuning": draw_tuning([{"step": 10, "loss": 2.0}]),
    "calibration": draw_calibration([{"sure": 0.7, "right": 0.75, "pairs": 8}]),
    "rewards": draw_rewards([REWARD], ["tests"]),
}


@pytest.mark.parametrize("name", ["loss", "schedule", "tuning", "rewards"])
def test_one_point_is_a_dot_and_not_an_empty_figure(name: str) -> None:
    for axes in OF_THE_PAGE[name].axes:
        seen = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
        assert seen, axes.get_ylabel()
        assert all(len(line.get_xdata()) == 1 for line in seen)


def test_a_panel_without_points_says_so() -> None:
    for figure in (draw_rewards([], ["tests"]), draw_tuning([])):
        for axes in figure.axes:
            assert [text.get_text() for text in axes.texts] == ["nothing was logged"]


@pytest.mark.parametrize("name", OF_THE_PAGE)
def test_text_of_a_figure_is_readable_on_a_phone_and_axes_have_units(name: str) -> None:
    """A screen of 390 pixels leaves 358 for a figure; the page stretches it to that."""
    svg = to_svg(OF_THE_PAGE[name])
    (width,) = re.findall(r'viewBox="0 0 ([\d.]+) ', svg)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]

    assert sizes
    assert min(sizes) * 358 / float(width) >= 9  # a point of matplotlib is a unit of its viewBox
    for axes in OF_THE_PAGE[name].axes:
        labels = axes.get_xlabel() + axes.get_ylabel() + axes.get_title(loc="left")
        assert labels, name


def test_the_funnel_shows_what_was_dropped_at_its_own_scale() -> None:
    (axes,) = OF_THE_PAGE["funnel"].axes

    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert sorted(widths) == [3, 7]
    assert axes.get_xlim()[1] < 10, "ten of a thousand files fill the figure"
    assert axes.get_title(loc="left") == "1,000 read, 990 kept (99.0 %)"
    assert draw_funnel({**COUNTS, "dropped": {}}).axes[0].get_xlabel() == "files dropped: none"


def find_reaches(figure: Figure) -> list[tuple[float, float]]:
    """The vertical error bars of a figure."""
    bars = [one for axes in figure.axes for one in axes.collections if isinstance(one, LineCollection)]
    segments = [segment for lines in bars for segment in lines.get_segments()]
    return [(float(one[0][1]), float(one[1][1])) for one in segments if one[0][0] == one[1][0]]


def test_calibration_has_wilsons_interval() -> None:
    """Six of eight: 0.409 to 0.929, by statsmodels' proportion_confint(6, 8, method="wilson")."""
    ((low, high),) = find_reaches(OF_THE_PAGE["calibration"])

    assert (round(low, 3), round(high, 3)) == (0.409, 0.929)


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_and_figures_of_the_page_have_contrast_in_both_schemes() -> None:
    """WCAG's 4.5 for text, 3 for graphics; the rule itself by its own example of black on white."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (Path(__file__).parents[2] / "src/codeshell_hf/publish/page.html.jinja").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{[^}]*(--ink.*?)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        found = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", scheme))
        named = {
            key: value if len(value) == 7 else "#" + "".join(2 * one for one in value[1:])
            for key, value in found.items()
        }
        for text in ("ink", "dim", "mark"):
            assert contrast(named[text], named["ground"]) >= 4.5, (text, named)
        for text in ("ink", "dim"):
            assert contrast(named[text], named["soft"]) >= 4.5, (text, named)
        for colour in COLOURS:
            assert contrast(colour, named["ground"]) >= 3, (colour, named)
