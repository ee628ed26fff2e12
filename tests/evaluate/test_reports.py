"""Tables and comparisons."""

from dataclasses import replace

from codeshell_hf.evaluate.published import TaskName
from codeshell_hf.evaluate.reports import collect_curves, format_report, list_changes, list_rows
from codeshell_hf.evaluate.results import ModelResult
from codeshell_hf.evaluate.scores import Measure, ProblemRow, Score
from tests.evaluate.sets import make_task


def make_result(rights: list[int], *, samples: int = 2) -> ModelResult:
    rows: list[ProblemRow] = [
        {"id": str(number), "language": "py", "samples": samples, "right": right} for number, right in enumerate(rights)
    ]
    value = sum(rights) / len(rights) / samples
    measure = Measure(value, 0.0, 1.0, len(rights))
    score = Score({"pass@1": measure}, {"py": {"pass@1": measure}}, missing_toolchains={"jl": 3}, problems=rows)
    return ModelResult({}, {"t": score})


def test_models_are_compared_on_the_same_problems() -> None:
    models = {
        "a": make_result([0] * 30 + [1] * 10),
        "b": make_result([1] * 30 + [2] * 10),
        "c": make_result([0] * 30 + [1] * 9 + [2]),
    }

    better, same = list_changes(models)

    assert (better.model, better.change, better.problems) == ("b", 0.5, 40)
    assert better.low > 0 >= same.low
    lines = format_report(models, [], None)
    assert any(line.startswith("t: b +50.0 [+50.0, +50.0] against a") for line in lines)
    assert not any(line.startswith("t: c") for line in lines)
    assert "a: t has problems that were not scored, since their toolchain is missing: 3 in jl" in lines


def test_a_change_counts_only_the_problems_of_both_models() -> None:
    models = {"a": make_result([0, 2]), "b": make_result([1, 1, 0])}
    del models["b"].tasks["t"].problems[0]

    (change,) = list_changes(models)

    assert (change.problems, change.change) == (1, -0.5)


def test_rows_hold_every_models_measure_and_the_reports_where_the_protocol_is_the_same() -> None:
    models = {"a": make_result([1] * 164, samples=1), "b": make_result([0] * 164, samples=1)}

    (ours,) = list_rows(models, [make_task("t", "humaneval-released-v1")])
    for result in models.values():
        result.tasks["t"].shown_name = TaskName("HumanEval", "HumanEval", "openai/openai_humaneval")
    (released,) = list_rows(models, [make_task("t", "humaneval-released-v1")])
    (greedy,) = list_rows(models, [make_task("t", "humaneval-greedy-v1")])
    (shorter,) = list_rows(models, [replace(make_task("t", "humaneval-released-v1"), deviations={"timeout_s": 1})])

    assert (ours.name, released.name) == ("t: pass@1", "HumanEval: pass@1")
    assert [measure.value for measure in released.models.values()] == [1.0, 0.0]
    assert [row.published for row in (ours, released, greedy, shorter)] == [None, 34.32, None, None]
    assert "the report" in format_report(models, [make_task("t", "humaneval-released-v1")], None)[0]
    assert "the report" not in format_report(models, [make_task("t", "humaneval-greedy-v1")], None)[0]


def test_four_better_and_none_worse_of_eight_are_not_told_from_chance() -> None:
    models = {"a": make_result([0] * 8, samples=1), "b": make_result([1] * 4 + [0] * 4, samples=1)}

    (change,) = list_changes(models)

    assert (change.better, change.worse) == (4, 0)
    assert change.probability == change.corrected == 0.125  # 2 / 2 ** 4
    assert "no change against a can be told from chance" in format_report(models, [], None)


def test_comparisons_are_corrected_over_tasks_and_models() -> None:
    models = {name: make_result([0] * 12 if name == "a" else [1] * 6 + [0] * 6, samples=1) for name in "abc"}

    changes = list_changes(models)

    assert [change.probability for change in changes] == [2 / 2**6] * 2
    assert [change.corrected for change in changes] == [4 / 2**6] * 2  # no longer below 0.05


def test_curves_run_over_the_steps_in_the_names_of_checkpoints() -> None:
    late, early = make_result([2, 2]), make_result([0, 1])
    late.bits_per_byte, late.bits_per_byte_interval = {"all": 1.5}, {"all": (1.4, 1.6)}

    curves = collect_curves({"step-00000016": late, "step-00000008": early})

    assert curves == {"bits per byte": [(16, 1.5, 1.4, 1.6)], "t: pass@1": [(16, 1.0, 0.0, 1.0), (8, 0.25, 0.0, 1.0)]}
