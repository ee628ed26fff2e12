"""Rewards: what each gives, what is refused, and the guard around them."""

import math
from pathlib import Path

import pytest

from codeshell_hf.align.rewards import (
    FormatReward,
    GuardedReward,
    LengthReward,
    TestsReward,
    check_rewards,
    list_judges,
    make_rewards,
    needs_sandbox,
)
from codeshell_hf.align.settings import (
    FormatRewardSettings,
    FunctionRewardSettings,
    JudgeRewardSettings,
    LengthRewardSettings,
    RewardSettings,
    TestsRewardSettings,
)
from codeshell_hf.errors import RunFailed, SettingsError
from codeshell_hf.extensions import find_extension_file
from codeshell_hf.sandbox import open_sandbox
from tests.endpoint import serve_answers


def says(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_tests_reward_finished_code_that_passes() -> None:
    answers = says(" x = 1|<end>|", " x = 2|<end>|", " x = 1", " x = 1|<end>|", "```\nx = 1\n```|<end>|")
    with open_sandbox("none", workers=1) as sandbox:
        rewards = TestsReward(sandbox)(completions=answers, tests=["assert x == 1"] * 3 + [None, "assert x == 1"])

    assert rewards == [1.0, 0.0, 0.0, None, 1.0]


FORGERIES = (
    "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "class N(int):\n    def __eq__(self, other): return True\ndef f(x): return N(7)",
    "import os\ndef f(x): os._exit(0)",
    "import gc\ndef f(x): return [int(t.split('== ')[1][0]) for t in gc.get_objects() if 'assert f(1)' in str(t)][0]",
)


def test_tests_reward_no_forgery() -> None:
    answers = says(*[f"```python\n{source}\n```|<end>|" for source in (*FORGERIES, "def f(x): return x + 1")])
    with open_sandbox("none", workers=1) as sandbox:
        rewards = TestsReward(sandbox)(completions=answers, tests=["assert f(1) == 2\nassert f(2) == 3"] * len(answers))

    assert rewards == [0.0] * len(FORGERIES) + [1.0]


def test_a_share_of_tests_is_rewarded_if_asked_for() -> None:
    """By hand: one of four assertions holds, two of two, none of one, and a forged comparison holds for none."""
    tests = ["assert f(1) == 1\nassert f(2) == 4\nassert f(3) == 9\nassert f(4) == 16"] * 2
    answers = says("def f(x): return x|<end>|", f"{FORGERIES[0]}|<end>|", "x = 1|<end>|", "def f(x): return x")
    with open_sandbox("none", workers=1) as sandbox:
        shares = TestsReward(sandbox, gives_share=True)(completions=answers, tests=[*tests, "assert x == 1", tests[0]])

    assert shares == [0.25, 0.0, 1.0, 0.0]


def test_format_wants_what_the_tests_use() -> None:
    tests = ["assert f(1) == 1"] * 4
    answers = says(
        "Sure|<end>|", "def f(x): return x|<end>|", "```python\ndef g(x): return x\n```|<end>|", "pass|<end>|"
    )

    assert FormatReward()(completions=answers, tests=tests) == [0.0, 1.0, 0.0, 0.0]


def test_a_function_that_names_the_sandbox_runs_programs_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "from codeshell_hf.sandbox import Program\n"
        "def runs(completions, sandbox, **columns):\n"
        "    programs = [Program(completion[-1]['content']) for completion in completions]\n"
        "    return [float(verdict.passed) for verdict in sandbox.run(programs)]\n"
        "def short(completions, **columns):\n"
        "    return [1.0 for _ in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    runs = FunctionRewardSettings(kind="function", function="own_rewards:runs")
    short = FunctionRewardSettings(kind="function", function="own_rewards.py:short")
    assert [needs_sandbox(runs), needs_sandbox(short)] == [True, False]

    with open_sandbox("none", workers=1) as sandbox:
        [reward] = make_rewards([runs], sandbox, max_tokens=9, max_bad_fraction=0.1, folder=tmp_path)
        assert isinstance(reward.scorer, GuardedReward)
        assert reward.scorer(completions=says("x = 1", "1 / 0")) == [1.0, 0.0]
    assert reward.name == "runs"
    assert find_extension_file("own_rewards:runs") == tmp_path / "own_rewards.py"


def test_a_judge_scores_finished_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serve_answers(lambda text: "Score: 9" if "right" in text else "It is hard to say.") as server:
        section = JudgeRewardSettings(kind="judge", url=server.url, model="m")
        [reward] = make_rewards([section], None, max_tokens=9, max_bad_fraction=0.9, folder=tmp_path)
        assert isinstance(reward.scorer, GuardedReward)
        scores = reward.scorer(
            completions=says("right|<end>|", "right|<end>|", "right", "odd|<end>|"),
            prompts=[[{"role": "user", "content": "q"}]] * 4,
        )

    assert scores == [0.9, 0.9, 0.0, None]
    assert len(server.prompts) == 2
    assert (tmp_path / "judge-0.jsonl").exists()


def test_format_rewards_finished_python_and_length_takes_away_from_long_answers() -> None:
    assert FormatReward()(completions=says("x = 1|<end>|", "x = 1", "x = |<end>|", "|<end>|")) == [1.0, 0.0, 0.0, 0.0]
    lengths = LengthReward(soft_tokens=2, max_tokens=6)(completion_ids=[[0] * n for n in (1, 2, 4, 6, 9)])
    assert lengths == [0.0, 0.0, -0.5, -1.0, -1.0]


def test_a_reward_that_is_not_a_number_or_raises_is_counted_and_named() -> None:
    values = iter([[1.0, math.nan], [math.inf, 0.0]])
    guarded = GuardedReward(lambda **_: next(values), max_bad_fraction=0.9)

    assert guarded(completions=says("a", "b")) == [1.0, None]
    assert guarded(completions=says("a", "b")) == [None, 0.0]
    assert guarded.bad == {"not a number": 2}

    def fails(**_: object) -> list[float]:
        raise KeyError("tests")

    guarded = GuardedReward(fails, max_bad_fraction=0.5, min_answers=4)
    assert guarded.__name__ == "fails"
    assert guarded(completions=says("a", "b")) == [None, None]
    with pytest.raises(RunFailed, match=r"reward fails was unusable for 4 of 4 answers \(4 KeyError raised\)"):
        guarded(completions=says("a", "b"))
    with pytest.raises(RunFailed, match="gave 1 values for 2 answers"):
        GuardedReward(lambda **_: [1.0])(completions=says("a", "b"))


def test_a_run_stops_only_above_the_share_of_unusable_rewards() -> None:
    """Ten of a hundred answers may be unusable, and nothing is decided before the first 32."""
    guarded = GuardedReward(lambda completions, **_: [math.nan] * len(completions), max_bad_fraction=0.1)
    assert guarded(completions=says(*"a" * 31)) == [None] * 31
    with pytest.raises(RunFailed, match=r"unusable for 32 of 32 answers \(32 not a number\), more than"):
        guarded(completions=says("a"))

    guarded = GuardedReward(lambda completions, **_: [math.nan] * 10 + [1.0] * 90, max_bad_fraction=0.1)
    guarded(completions=says(*"a" * 100))
    assert guarded.bad == {"not a number": 10}


def test_rewards_are_made_in_order_and_those_without_weight_judge(tmp_path: Path) -> None:
    sections: list[RewardSettings] = [
        LengthRewardSettings(kind="length", soft_tokens=2, weight=0.5),
        FormatRewardSettings(kind="format", weight=0.0),
    ]

    rewards = make_rewards(sections, None, max_tokens=6, max_bad_fraction=0.1, folder=tmp_path)

    assert [(reward.name, reward.weight) for reward in rewards] == [("length", 0.5), ("format", 0.0)]
    assert list_judges(rewards) == {"format": 1.0}
    function = rewards[0].function
    assert isinstance(function, GuardedReward)
    assert function(completions=says("a"), completion_ids=[[0] * 4]) == [-0.5]
    assert rewards[0].tokenizer is None


def test_rewards_that_cannot_train_are_refused(tmp_path: Path) -> None:
    tests = TestsRewardSettings(kind="tests")
    check_rewards([tests])
    with pytest.raises(SettingsError, match="rewards are tests, tests; give each once"):
        check_rewards([tests, tests])
    with pytest.raises(SettingsError, match="every reward has weight 0, so nothing would be learned"):
        check_rewards([FormatRewardSettings(kind="format", weight=0.0)])
    with pytest.raises(SettingsError, match="soft_tokens is 24, but answers end at 24 tokens"):
        make_rewards(
            [LengthRewardSettings(kind="length", soft_tokens=24)],
            None,
            max_tokens=24,
            max_bad_fraction=0.1,
            folder=tmp_path,
        )
