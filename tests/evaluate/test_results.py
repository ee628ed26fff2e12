"""Results of earlier runs."""

from pathlib import Path

from codeshell_hf.evaluate.results import ModelResult, ResultCache
from codeshell_hf.evaluate.scores import Measure, Score


def test_a_result_is_computed_once_for_each_origin_and_code(tmp_path: Path) -> None:
    computed: list[str] = []

    def get(code: str, origin: object) -> object:
        def compute() -> dict[str, object]:
            computed.append(code)
            return {"number": len(computed), "pair": (1, 2)}

        return ResultCache(tmp_path, code).compute("score", origin, compute)["number"]

    assert [get("a", [1]), get("a", [1]), get("a", [2]), get("b", [1]), get("b", [1])] == [1, 1, 2, 3, 3]
    assert len(list(tmp_path.glob("score-*.json"))) == 3


def test_what_was_not_measured_is_left_out_and_summaries_hold_no_single_problems() -> None:
    measure = Measure(0.5, 0.1, 0.9, 2)
    score = Score({"pass@1": measure}, problems=[{"id": "a", "language": "py", "samples": 1, "right": 1}])
    result = ModelResult({"dtype": "float32"}, {"t": score}, {"all": 1.5}, {"all": (1.4, 1.6)})

    values, summary = result.to_values(), result.to_summary()

    assert set(values) == {"made_by", "tasks", "bits_per_byte", "bits_per_byte_interval"}
    named = {"title": "", "benchmark": "", "dataset": ""}
    measured = {"measures": {"pass@1": vars(measure)}, "languages": {}, "counts": {}, "touched": None, "clean": {}}
    assert summary["tasks"] == {"t": {"shown_name": named, **measured}}
    assert Score.from_values(score.to_values()) == score
