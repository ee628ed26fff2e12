"""Runs are put side by side only if they were trained alike."""

import json
from pathlib import Path

import pytest

from codeshell_hf.commands.compare import main
from codeshell_hf.manifest import Manifest


def make_run(folder: Path, bits: float, **settings: object) -> Path:
    folder.mkdir(parents=True)
    log = [{"step": 0, "tokens": 0, "bits_per_byte": {"all": 4.0, "python": 4.1}}]
    log += [{"step": n, "tokens": 100 * n, "loss": 5 - n / 10} for n in range(1, 9)]
    log.append({"step": 8, "tokens": 800, "bits_per_byte": {"all": bits, "python": bits + 0.1}})
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    values = {"seed": 0, "shards": str(folder), "output": str(folder)} | settings
    Manifest("pretrain", "f", {}, values, "c").write(folder)
    return folder


def test_two_runs_stand_on_one_page_with_their_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / name / "pretrain", bits) for name, bits in (("random", 2.5), ("quality", 2.25))]
    (tmp_path / "evaluate").mkdir()
    infilling = {"all": {"exact_match": 0.125, "tasks": 8}}
    measures = {name: {"bits_per_byte": {"all": 2.4}, "infilling": infilling} for name in ("random", "quality")}
    Manifest("evaluate", "f", {}, {}, "c", measures=measures).write(tmp_path / "evaluate")

    code = main([*map(str, runs), "--scores", str(tmp_path / "evaluate"), "--output", str(tmp_path / "page.html")])

    page = (tmp_path / "page.html").read_text()
    assert code == 0
    assert page.count("<svg") == 1
    for text in ("random against quality", "2.2500", "2.6000", "0.1250", "Infilling, exact"):
        assert text in page
    assert "quality      2.2500 bits per byte after 800 tokens" in capsys.readouterr().out


def test_runs_that_differ_in_more_than_their_data_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run(tmp_path / name / "pretrain", 2.5, seed=seed) for name, seed in (("a", 0), ("b", 1))]

    assert main([*map(str, runs), "--output", str(tmp_path / "page.html")]) == 2
    assert "a and b are not comparable: seed differ" in capsys.readouterr().err
    assert main([str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    assert main([str(runs[0]), str(runs[0]), "--output", str(tmp_path / "page.html")]) == 2
