"""Curves are deterministic and readable."""

from pathlib import Path

from codeshell_hf.manifest import Values
from codeshell_hf.publish.figures import draw_loss, running_mean, save_run, to_svg


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
