"""The log of a run."""

import json
from pathlib import Path

import pytest

from codeshell_hf.train.run_log import Log, Progress
from codeshell_hf.train.throughput import TokenCost


def write_log(path: Path, steps: int) -> None:
    entries = [
        {"step": n, "tokens": 100 * n, "loss": 5.0 - n, "gradient_norm": 1.0, "learning_rate": 0.1, "row_tokens": 8,
         "elapsed_s": 2.0 * n}
        for n in range(1, steps + 1)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"step": 9, "lo')


def test_a_resumed_log_drops_what_is_repeated_and_what_a_kill_cut_short(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", 4)

    log = Log(tmp_path / "log.jsonl", 3, is_writer=True)
    log.start_clock()
    log.add_step(Progress(4, 400), 1.5, 2.0, 0.1, 16, is_taken=False)

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] == 1.5
    assert lines[-1]["is_skipped"]
    assert lines[-1]["elapsed_s"] == pytest.approx(6.0, abs=1.0)  # after the 6 seconds of the steps before
    assert log.row_tokens == 16


def test_other_ranks_know_the_log_and_do_not_write_it(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", 2)
    before = (tmp_path / "log.jsonl").read_bytes()

    log = Log(tmp_path / "log.jsonl", 2, is_writer=False)
    log.add({"step": 2, "tokens": 200, "bits_per_byte": {"all": 1.0}})

    assert len(log.entries) == 3
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_the_line_has_speed_share_of_the_peak_and_time_left(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", 3)
    log = Log(tmp_path / "log.jsonl", 3, is_writer=False)

    # 200 tokens in 4 seconds are 50 a second; at 6 + 2 GFLOP a token, 0.4 of 1 TFLOP/s. 20 steps of 100 are left.
    line = log.format_line(23, 100, TokenCost(6e9, 2e9), 1.0, ranks=1)

    assert line == (
        "step      3/23 | loss  2.000 |      0.1k tok/s | mfu 0.40 (0.50) | lr 1.0e-01 | norm  1.00 | eta 0m40s"
    )
    assert "mfu 0.20 (0.25)" in log.format_line(23, 100, TokenCost(6e9, 2e9), 1.0, ranks=2)
    assert log.last_measures(100)["tokens_per_s"] == 50.0


def test_lines_of_other_shapes_are_no_steps(tmp_path: Path) -> None:
    whole = b'{"step": 1, "tokens": 100, "loss": 4.0, "elapsed_s": 2.0}\n'
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        whole + b'[1]\nnull\n7\n{"step": "2"}\n{"loss": 1.0}\n' + whole.replace(b"1,", b"2,", 1) + b"\xff\xfe\n"
    )

    log = Log(path, 9, is_writer=True)

    assert [entry["step"] for entry in log.entries] == [1, 2]


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_log(tmp_path / "log.jsonl", 1)
    log = Log(tmp_path / "log.jsonl", 1, is_writer=True)
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").mkdir()

    log.add({"step": 2, "tokens": 200})

    assert "log.jsonl cannot be written (Is a directory); the run continues without these lines" in caplog.text
    assert [entry["step"] for entry in log.entries] == [1, 2]
