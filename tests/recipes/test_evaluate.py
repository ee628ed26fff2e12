"""The stage of evaluation: models, servers and programs, kept answers, sweeps, judges, and wrong calls."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.commands.programs import main as write_programs
from codeshell_hf.pack.shard_writer import TextDocument, write_shards
from codeshell_hf.stages.stage import main
from codeshell_hf.text.shards import Header
from recipes.evaluate import STAGE
from tests.backends import BACKEND
from tests.endpoint import serve_judge

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "recipes" / "nano" / "data" / "benchmarks"
pytestmark = pytest.mark.xdist_group("evaluation")
TASKS: dict[str, Any] = {
    "humaneval": {"profile": "humaneval-pass10-v1", "data": "humaneval.jsonl", "samples": 3, "max_new_tokens": 8},
    "lines": {"profile": "line-completion-v1", "data": "lines.jsonl", "max_new_tokens": 8},
    "security": {"profile": "secure-completion-v1", "data": "openings.jsonl", "samples": 1, "max_new_tokens": 8},
    "test generation": {"profile": "test-generation-v1", "data": "humaneval.jsonl", "max_new_tokens": 8},
    "fixing": {"profile": "fixing-v1", "data": "humaneval.jsonl", "max_new_tokens": 8},
}


def evaluate(folder: Path, capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int, str]:
    values = {"output": str(folder / "evaluate"), "sandbox": BACKEND, "batch_size": 16, **settings}
    for task in values.get("tasks", {}).values():
        if not task["data"].startswith(("/", "hub:")):
            task["data"] = str(SMALL / task["data"])
    (folder / "settings.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(values, default=str)), sort_keys=False))
    code = main(STAGE, [str(folder / "settings.yaml")])
    said = capsys.readouterr()
    return code, said.out + said.err


def copy(tasks: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(task) for name, task in tasks.items()}


def read_results(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "evaluate" / "results.json").read_text())
    return results


def test_results_hold_everything_that_made_them(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = evaluate(tmp_path, capsys, models={"base": learnt_by_heart}, tasks=copy(TASKS))

    assert code == 0, said
    results = read_results(tmp_path)
    made_by = results["models"]["base"]["made_by"]
    assert {"weights", "tokenizer", "dtype", "device", "parameters", "batch_size"} <= set(made_by)
    task = results["tasks"]["humaneval"]
    assert task["profile"]["name"] == "humaneval-pass10-v1"
    assert task["deviations"] == {"samples": 3, "max_new_tokens": 8}
    assert task["data"]["problems"] == 8
    assert task["toolchains"]["py"]
    score = results["models"]["base"]["tasks"]["humaneval"]
    assert score["counts"]["samples"] == 24
    assert set(score["measures"]) == {"pass@1"}
    assert len(score["problems"]) == 8
    assert len(score["samples"]) == 3
    assert set(results["models"]["base"]["tasks"]) == set(TASKS)
    assert "torch" in results["versions"]
    assert "functions (in HumanEval's form, 8 problems): pass@1" in said
    assert "humaneval: pass@1" not in said  # a published name stands only for published data
    assert "whether its problems touch the training data is not known" in said


def write_corpus(folder: Path, tokenizer: CodeShellTokenizer) -> tuple[Path, Path]:
    """Outputs of curate and pack: 20 training files and 6 held-out ones."""
    body = "    result = radius * 3\n    return result + 1\n"
    texts: list[TextDocument] = [
        {"id": str(number), "language": "python", "source": "own", "text": f"def area{number}(radius):\n{body}" * 5}
        for number in range(26)
    ]
    rows = [{**row, "split": "train" if number < 20 else "held-out"} for number, row in enumerate(texts)]
    documents, shards = folder / "curate", folder / "pack"
    (documents / "documents").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), documents / "documents" / "part-00000.parquet")
    (shards / "held-out").mkdir(parents=True)
    header = Header(vocab_size=len(tokenizer), end_of_text=tokenizer.eos_token_id, sentinels=None, tokenizer="")
    write_shards(texts[20:], tokenizer, header, shards / "held-out")
    return documents, shards


def test_held_out_and_training_files_are_measured(
    learnt_by_heart: Path, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, shards = write_corpus(tmp_path, tiny_tokenizer)
    sections = {
        "bits_per_byte": {"window_tokens": 64},
        "infilling": {"per_language": 3, "max_prompt_tokens": 64},
        "memorisation": {"documents": 4, "prompt_characters": 40, "reference_characters": 20},
    }

    code, said = evaluate(
        tmp_path, capsys, models={"base": learnt_by_heart}, documents=documents, shards=shards, **sections
    )

    assert code == 0, said
    results = read_results(tmp_path)
    base = results["models"]["base"]
    assert results["held_out"]["documents"] == 6
    assert 0 < results["baselines"]["byte_trigram"] < 1  # counting alone knows what repeats
    low, high = base["bits_per_byte_interval"]["all"]
    assert low <= base["bits_per_byte"]["all"] == base["bits_per_byte"]["python"] <= high
    assert (base["infilling"]["all"]["tasks"], len(base["samples"])) == (3, 3)
    assert base["tasks"]["memorisation"]["counts"]["problems"] == 4
    assert results["tasks"]["memorisation"]["profile"]["name"] == "memorisation-v1"
    assert "byte trigram" in said


def test_what_was_answered_is_not_asked_again(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeshell_hf.evaluate.generation import ModelGenerator

    asked: list[str] = []
    real = ModelGenerator.generate

    def count(self: ModelGenerator, requests: Any, on_done: Any) -> None:
        asked.extend(request.id for request in requests)
        real(self, requests, on_done)

    monkeypatch.setattr(ModelGenerator, "generate", count)
    tasks = {"lines": TASKS["lines"]}
    evaluate(tmp_path, capsys, models={"base": learnt_by_heart}, tasks=copy(tasks))
    first = read_results(tmp_path)
    kept = next((tmp_path / "evaluate.kept").glob("lines-base-*.jsonl"))
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:-5]) + lines[-5][:20])  # as a kill leaves it
    for score in (tmp_path / "evaluate.kept").glob("score-*"):
        score.unlink()
    assert len(asked) == 24
    asked.clear()

    code, _ = evaluate(tmp_path, capsys, models={"base": learnt_by_heart}, tasks=copy(tasks), batch_size=8)

    assert code == 0
    assert len(asked) == 5
    assert read_results(tmp_path)["models"]["base"]["tasks"] == first["models"]["base"]["tasks"]
    asked.clear()
    evaluate(tmp_path, capsys, models={"base": learnt_by_heart, "twin": learnt_by_heart}, tasks=copy(tasks))
    assert len(asked) == 24
    asked.clear()
    monkeypatch.setattr("codeshell_hf.dependencies.hash_code", lambda start: "of other code")
    evaluate(tmp_path, capsys, models={"base": learnt_by_heart}, tasks=copy(tasks))
    assert len(asked) == 24


def test_a_probe_that_says_otherwise_asks_nothing_again(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the border the probe flips from run to run; the first one counts, unless the settings name another."""
    from codeshell_hf.evaluate.generation import ModelGenerator

    asked: list[str] = []
    real = ModelGenerator.generate

    def stop_early(self: ModelGenerator, requests: Any, on_done: Any) -> None:
        asked.extend(request.id for request in requests)
        real(self, requests, on_done)
        if len(asked) <= 24:
            raise KeyboardInterrupt  # before anything was judged

    monkeypatch.setattr(ModelGenerator, "generate", stop_early)
    given: dict[str, Any] = {"models": {"base": learnt_by_heart}, "tasks": {"lines": TASKS["lines"]}}
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.19)
    assert evaluate(tmp_path, capsys, **given)[0] == 75
    assert len(asked) == 24
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.21)

    code, said = evaluate(tmp_path, capsys, **given)

    assert code == 0, said
    assert len(asked) == 24
    assert "arithmetic in float32, as the run started" in said
    assert read_results(tmp_path)["models"]["base"]["made_by"]["dtype"] == "float32"
    code, said = evaluate(tmp_path, capsys, precision="bfloat16", **given)
    assert "arithmetic in bfloat16, as requested" in said
    assert len(asked) == 48


def test_programs_go_to_another_harness_and_come_back_with_the_same_score(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"humaneval": TASKS["humaneval"]}
    evaluate(tmp_path, capsys, models={"base": learnt_by_heart}, tasks=copy(tasks))
    kept = next((tmp_path / "evaluate.kept").glob("humaneval-base-*.jsonl"))
    given = {}
    for layout, name in (("bigcode", "g.json"), ("evalplus", "s.jsonl")):
        code = write_programs(
            [str(kept), "--data", str(SMALL / "humaneval.jsonl"), "--layout", layout, "--output", str(tmp_path / name)]
        )
        assert code == 0
        given[layout] = {"programs": {"humaneval": tmp_path / name}}

    code, said = evaluate(tmp_path, capsys, models={"base": learnt_by_heart, **given}, tasks=copy(tasks))

    assert code == 0, said
    scores = {name: model["tasks"]["humaneval"]["problems"] for name, model in read_results(tmp_path)["models"].items()}
    assert scores["bigcode"] == scores["evalplus"] == scores["base"]


@pytest.mark.slow
def test_a_sweep_takes_every_checkpoint_and_draws_curves(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    for step in (8, 16):
        (exports / f"step-{step:08d}").symlink_to(learnt_by_heart)

    code, said = evaluate(tmp_path, capsys, sweep=exports, tasks={"lines": dict(TASKS["lines"])})

    assert code == 0, said
    assert list(read_results(tmp_path)["models"]) == ["step-00000008", "step-00000016"]
    drawing = (tmp_path / "evaluate" / "sweep.svg").read_text()
    assert "<svg" in drawing


def test_a_dry_run_tells_the_size_of_the_work(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {**TASKS["humaneval"], "data": str(SMALL / "humaneval.jsonl")}
    models = dict.fromkeys(("base", "twin"), str(learnt_by_heart))
    tasks = {"humaneval": task, "later": {**task, "data": "data/later.jsonl"}}
    settings = {"output": str(tmp_path / "x"), "models": models, "tasks": tasks}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings))

    assert main(STAGE, [str(tmp_path / "s.yaml"), "--dry-run"]) == 0

    shown = capsys.readouterr().out
    size = "functions (in HumanEval's form, 8 problems): 8 problems, 48 answers of 2 models under humaneval-pass10-v1"
    assert size in shown
    assert "  later: of unknown size, since data/later.jsonl is missing\n" in shown
    assert not (tmp_path / "x").exists()


def test_a_judge_prefers_answers_in_both_orders(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    rows = (SMALL / "requests.jsonl").read_text().splitlines(keepends=True)[:12]
    (tmp_path / "requests.jsonl").write_text("".join(rows))
    with serve_judge() as judge:
        settings = {
            "url": judge.url, "model": "judge", "against": "base", "requests": tmp_path / "requests.jsonl",
            "max_new_tokens": 4,
        }  # fmt: skip
        code, said = evaluate(
            tmp_path, capsys, models={"base": learnt_by_heart, "twin": learnt_by_heart}, judge=settings
        )

    assert code == 0, said
    score = read_results(tmp_path)["models"]["twin"]["tasks"]["preference"]
    # The same model against itself: whoever judges by places contradicts itself, and every pair is a tie.
    assert score["measures"]["preferred"]["value"] == 0.5
    assert score["counts"] == {"problems": 12, "ties": 12}


@pytest.mark.slow
def test_the_harness_reads_local_files(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    code, said = evaluate(
        tmp_path,
        capsys,
        models={"base": learnt_by_heart},
        harness={"mmlu": SMALL / "mmlu", "gsm8k": SMALL / "gsm8k" / "test.jsonl", "max_items": 2},
    )

    assert code == 0, said
    tasks = read_results(tmp_path)["models"]["base"]["tasks"]
    assert tasks["mmlu"]["counts"]["problems"] == 4
    assert set(tasks["mmlu"]["languages"]) == {"arithmetic", "programming"}
    assert set(tasks["gsm8k"]["measures"]) == {"strict-match", "flexible-extract"}
    assert tasks["gsm8k"]["counts"]["prompts cut"] == 2


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no model": ({}, 2, "there is no model to evaluate"),
    "an unknown profile": (
        {"tasks": {"a": {"profile": "humaneval-v9", "data": "humaneval.jsonl"}}}, 2, "unknown profile 'humaneval-v9'",
    ),
    "data of another schema": (
        {"tasks": {"a": {"profile": "mbpp-greedy-0shot-v1", "data": "humaneval.jsonl"}}}, 2, "line 1 has no text",
    ),
    "data that are nowhere": (
        {"tasks": {"a": {"profile": "humaneval-greedy-v1", "data": "/nowhere"}}}, 2, "does not exist",
    ),
    "a held-out split that is not named": ({"bits_per_byte": {"window_tokens": 8}}, 2, "documents or shards is not"),
    "programs of an unknown task": (
        {"models": {"x": {"programs": {"b": str(ROOT / "Makefile")}}}}, 2, "which is not among tasks",
    ),
    "no model to compare with": (
        {"judge": {"url": "http://x", "model": "m", "against": "c", "requests": str(SMALL / "requests.jsonl")}}, 2,
        "name one of them",
    ),
    "a folder without a model": ({"models": {"x": "/usr"}}, 2, "/usr has no configuration"),
    "an unknown setting": ({"taskz": {}}, 2, "did you mean 'tasks'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_one_line(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings, expected, message = WRONG[name]
    models: dict[str, Any] = {} if name == "no model" else {"models": {"base": learnt_by_heart}}

    code, said = evaluate(tmp_path, capsys, **{**models, **settings})

    assert code == expected
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("evaluate: error")]) == 1


def test_a_model_without_sentinels_is_told_once_and_the_rest_is_kept(
    learnt_by_heart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(learnt_by_heart, bare)
    text = (bare / "tokenizer.json").read_text().replace("<fim_middle>", "<fim_missed>")
    (bare / "tokenizer.json").write_text(text)
    infilling = {"profile": "infilling-santacoder-v1", "data": "infilling.jsonl", "max_new_tokens": 8}

    code, said = evaluate(
        tmp_path, capsys, models={"bare": bare}, tasks={"lines": dict(TASKS["lines"]), "infilling": infilling}
    )

    assert code == 2
    assert "so it was trained without it; leave the task out" in said
    assert len(next((tmp_path / "evaluate.kept").glob("lines-bare-*.jsonl")).read_text().splitlines()) == 25
