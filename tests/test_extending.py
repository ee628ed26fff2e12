"""Each piece of code in CONTRIBUTING.md that extends the package, run as it stands there."""

import re
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.extensions import list_files
from tests.curate.common import GOOD, NO_RULES, run

ROOT = Path(__file__).parents[1]
MAX_LINES = 10


def read_blocks() -> dict[str, str]:
    """Python of CONTRIBUTING.md that begins with the name of a file."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"```python\n# (mine/\w+\.py)\n(.*?)```", text, flags=re.DOTALL))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, in which the test works."""
    for name, code in read_blocks().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_takes_ten_lines() -> None:
    blocks = read_blocks()

    assert set(blocks) >= {"mine/rules.py", "mine/sources.py"}
    for name, code in blocks.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= MAX_LINES, name


def test_a_rule_drops_what_it_is_written_for_under_its_reason(mine: Path) -> None:
    (mine / "code").mkdir()
    (mine / "code" / "good.py").write_text(GOOD)
    (mine / "code" / "dense.py").write_text("values = [" + "1, " * 25 + "]\n")
    (mine / "code" / "dense.c").write_text("int values[] = {" + "1, " * 25 + "};\n")
    rules = NO_RULES.model_copy(update={"custom": ("mine/rules.py:dense",)})

    outcome = run(mine / "code", mine / "out", rules=rules)

    reasons = {row["language"]: row["dropped"] for row in outcome.funnel.rows()}
    assert reasons == {"python": {"dense": 1}, "c": {}}


def test_a_source_is_read_into_documents(mine: Path) -> None:
    (mine / "diaries").mkdir()
    (mine / "diaries" / "1789.diary").write_bytes(b"Rien.\f# Bastille\n\nTaken.\n")

    outcome = run(mine / "diaries", mine / "out", kind="mine/sources.py:DIARIES", rules=NO_RULES)

    [row] = outcome.funnel.rows()
    assert (row["language"], row["documents_before"], row["documents_after"]) == ("markdown", 2, 2)


def test_measured_parts_are_measured_again_when_their_reader_changes(mine: Path) -> None:
    (mine / "diaries").mkdir()
    (mine / "diaries" / "1789.diary").write_bytes(b"Rien.\f# Bastille\n\nTaken.\n")
    kind = "mine/sources.py:DIARIES"
    run(mine / "diaries", mine / "out", kind=kind, rules=NO_RULES, cache=mine / "cache")

    code = (mine / "mine" / "sources.py").read_text()
    (mine / "mine" / "sources.py").write_text(code.replace('split(b"\\f")', 'split(b"none")'))
    outcome = run(mine / "diaries", mine / "again", kind=kind, rules=NO_RULES, cache=mine / "cache")

    assert outcome.funnel.rows()[0]["documents_before"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "mine/sources.py:read"}, "make it a pair of functions"),
        ({"kind": "mine/sources.py:BIARIES"}, "defines no 'BIARIES'"),
        ({"kind": "diary"}, "kind is 'diary'; use one of folder"),
        ({"rules": NO_RULES.model_copy(update={"custom": ("mine/sources.py:read",)})}, "read failed: TypeError"),
        (
            {"rules": NO_RULES.model_copy(update={"custom": ("mine/sources.py:Path",)})},
            "make it a function that returns",
        ),
    ],
)
def test_what_is_no_rule_or_source_is_named(mine: Path, changes: dict[str, object], message: str) -> None:
    (mine / "code").mkdir()
    (mine / "code" / "1.diary").write_text("x")

    with pytest.raises((SettingsError, ValueError), match=message):
        run(mine / "code", mine / "out", **changes)  # type: ignore[arg-type]


def test_files_of_extensions_are_inputs_of_their_stage(mine: Path) -> None:
    from recipes.curate import Settings, list_inputs

    settings = Settings.model_validate(
        {
            "output": "out",
            "sources": [{"name": "diaries", "kind": "mine/sources.py:DIARIES", "path": "diaries"}],
            "rules": {"custom": ["mine/rules.py:dense"]},
        }
    )

    expected = list_files(["mine/sources.py:DIARIES", "mine/rules.py:dense"])
    assert expected.items() <= list_inputs(settings).items()
