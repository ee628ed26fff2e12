"""The report of curation."""

import json
from pathlib import Path

from codeshell_hf.curate.page import write_report
from codeshell_hf.curate.report import print_table
from tests.curate.toy_corpus import BAD, GOOD, RULES, run, write_files


def test_the_report_shows_the_table_the_reasons_and_examples(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD} | {name: text for name, (text, _) in BAD.items()})

    outcome = run(folder, tmp_path / "out")
    write_report(outcome, RULES, tmp_path / "out", title="bad & good", unit="words")

    page = (tmp_path / "out" / "report.html").read_text()
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Curation of bad &amp; good" in page
    for reason in outcome.funnel.counts()["dropped"]:
        assert f"<td>{reason}</td>" in page
    assert data["examples"]["long-lines"][0]["start"]
    assert data["histograms"]["longest_line"]["thresholds"] == {"max_line_bytes": 1000}
    shown = data["histograms"]["lines"]
    readable = 13 - sum(
        outcome.funnel.counts()["dropped"][name]
        for name in ("empty", "too-large", "unknown-language", "not-text", "lfs-pointer")
    )
    assert sum(shown["kept"]) + sum(shown["dropped"]) == readable
    assert data["steps"][0] == ["read", 13]
    assert json.loads((tmp_path / "out" / "funnel.json").read_text()) == outcome.funnel.counts()
    assert "kept 1 of 13" in print_table(outcome.funnel)[-1]
