"""Each piece of code in CONTRIBUTING.md that extends the package, run as it stands there."""

import json
import re
from pathlib import Path

import pytest

from codeshell_hf.align.rewards import GuardedReward, check_rewards, make_rewards
from codeshell_hf.align.settings import FunctionRewardSettings
from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.profiles import find_profile
from codeshell_hf.evaluate.settings import TaskSettings
from codeshell_hf.evaluate.tasks import read_task
from recipes.curate import Settings, list_all_inputs
from tests.curate.toy_corpus import GOOD, NO_RULES, run

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

    assert set(blocks) == {f"mine/{name}.py" for name in ("rules", "sources", "rewards", "profiles")}
    for name, code in blocks.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= MAX_LINES, name


def test_a_rule_drops_what_it_is_written_for_under_its_reason(mine: Path) -> None:
    (mine / "code").mkdir()
    (mine / "code" / "good.py").write_text(GOOD)
    (mine / "code" / "dense.py").write_text("values = [" + "1, " * 25 + "]\n")
    (mine / "code" / "dense.c").write_text("int values[] = {" + "1, " * 25 + "};\n")
    rules = NO_RULES.model_copy(update={"custom": ("mine/rules.py:dense",)})

    outcome = run(mine / "code", mine / "out", rules=rules, near_duplicates=None)

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


def test_a_reward_is_called_as_trl_calls_it(mine: Path) -> None:
    own = FunctionRewardSettings(kind="function", function="mine/rewards.py:short", weight=0.2)
    long = "\n".join(f"x{number} = {number}" for number in range(11))

    check_rewards([own])
    [reward] = make_rewards([own], None, max_tokens=100, max_bad_fraction=0.1, folder=mine)

    assert isinstance(reward.scorer, GuardedReward)
    answers = [[{"role": "assistant", "content": text}] for text in ("x = 1|<end>|", long, f"\n{long}"[:60])]
    assert reward.scorer(completions=answers, prompts=["p"] * 3, tests=[None] * 3) == [1.0, 0.0, 1.0]
    assert (reward.name, reward.weight) == ("short", 0.2)


def test_a_profile_poses_its_benchmark(mine: Path) -> None:
    problem = {
        "task_id": "HumanEval/0", "prompt": "def add(a, b):\n    ", "entry_point": "add",
        "canonical_solution": "return a + b\n", "test": "def check(f):\n    assert f(1, 2) == 3\n",
    }  # fmt: skip
    (mine / "HumanEval.jsonl").write_text(json.dumps(problem) + "\n")

    task = read_task("own", TaskSettings(profile="mine/profiles.py:ANNOUNCED", data="HumanEval.jsonl"))

    [read] = task.problems
    assert task.profile.make_prompt(read, ()).text == "# A complete and tested add in Python 3\ndef add(a, b):"
    assert task.profile.describe()["name"] == "humaneval-announced-v1"
    assert task.profile.describe()["make_prompt"] == "announce"


def test_what_is_no_reward_or_profile_is_named(mine: Path) -> None:
    (mine / "mine" / "wrong.py").write_text(
        "from codeshell_hf.evaluate.profiles import PROFILES\nnumber = 1\nsame = PROFILES['humaneval-greedy-v1']\n"
    )
    number = FunctionRewardSettings(kind="function", function="mine/wrong.py:number")
    short = FunctionRewardSettings(kind="function", function="mine/rewards.py:short")

    with pytest.raises(SettingsError, match="number is 1; make it a function"):
        check_rewards([number])
    with pytest.raises(SettingsError, match="rewards are short, short; give each once"):
        check_rewards([short, short])
    with pytest.raises(SettingsError, match="number is 1; make it a Profile"):
        find_profile("mine/wrong.py:number")
    with pytest.raises(SettingsError, match="has the name 'humaneval-greedy-v1' of a built-in profile"):
        find_profile("mine/wrong.py:same")


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
    settings = Settings.model_validate(
        {
            "output": "out",
            "sources": [{"name": "diaries", "kind": "mine/sources.py:DIARIES", "path": "diaries"}],
            "rules": {"custom": ["mine/rules.py:dense"]},
        }
    )

    inputs = list_all_inputs(settings)

    assert inputs["sources.diaries.kind"] == Path("mine/sources.py")
    assert inputs["rules.custom.0"] == Path("mine/rules.py")
    assert inputs["sources.diaries"] == Path("diaries")
