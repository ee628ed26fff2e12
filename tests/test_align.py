"""Conversations: what is read, what is refused, and the set that this project wrote."""

import ast
import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from codeshell_hf.align.conversations import parse_conversation, read_conversations
from codeshell_hf.align.preferences import Pair, pair_by_verdict, read_pairs, write_pairs
from codeshell_hf.align.rewards import FormatReward, GuardedReward, LengthReward, TestsReward
from codeshell_hf.errors import DataError, RunFailed
from codeshell_hf.sandbox import Program, open_sandbox
from codeshell_hf.text.cache import JsonLinesCache
from codeshell_hf.text.chat import (
    NO_LOSS,
    POLICY_TEMPLATE,
    Conversation,
    EncodedConversation,
    clean_answer,
    encode_answer,
    encode_conversation,
    encode_prompt,
    split_conversation,
)
from codeshell_hf.text.client import Client
from codeshell_hf.text.code import extract_code
from codeshell_hf.text.decode import sample_answers
from codeshell_hf.text.intervals import measure_change
from codeshell_hf.text.judge import Judge
from tests.endpoint import Endpoint, serve_judge

DATA = Path("recipes/nano/data/conversations.jsonl")
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.fixture(scope="module")
def written() -> list[Conversation]:
    return list(read_conversations(DATA))


class Nameless(ast.NodeTransformer):
    """Takes out of a program all that is a mere name or a text."""

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("name", "id", "arg", "attr", "asname"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "_")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "_"
        return self.generic_visit(node)


def shape_of(answer: str) -> str:
    try:
        return ast.dump(Nameless().visit(ast.parse(answer)))
    except SyntaxError:
        return answer


def test_the_set_is_large_bilingual_and_varied(written: list[Conversation]) -> None:
    languages = Counter(conversation.language for conversation in written)
    questions = [re.sub(r"`[^`]*`", "", conversation.messages[0]["content"]) for conversation in written]
    # A one-line program has few shapes: `return a + b` is like another sum. Names of what is called tell those apart.
    bodies = [
        (shape_of(conversation.messages[1]["content"]), frozenset(called(conversation.messages[1]["content"])))
        for conversation in written
    ]

    assert len(written) >= 300
    assert min(languages["en"], languages["zh"]) >= 140
    assert len({conversation.messages[0]["content"] for conversation in written}) == len(written)
    assert [text for text, count in Counter(questions).items() if count > 1 and len(text) > 30] == []
    assert [shape for shape, count in Counter(bodies).items() if count > 1] == []


def called(answer: str) -> set[str]:
    """Names that a program uses and does not make, and its texts."""
    try:
        tree = ast.parse(answer)
    except SyntaxError:
        return {answer}
    made = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    made |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return (used - made) | texts


def test_every_code_answer_keeps_its_promise(written: list[Conversation], tmp_path: Path) -> None:
    """Runs each answer with its test in a process of its own scope; one interpreter, a fresh namespace each."""
    with_tests = [conversation for conversation in written if conversation.tests]
    programs = [f"{conversation.messages[1]['content']}\n{conversation.tests}\n" for conversation in with_tests]
    (tmp_path / "programs.json").write_text(json.dumps(programs))
    runner = (
        "import json, traceback\n"
        "failed = []\n"
        "for number, program in enumerate(json.load(open('programs.json'))):\n"
        "    try:\n"
        "        exec(compile(program, f'answer {number}', 'exec'), {'__name__': 'answer'})\n"
        "    except BaseException as error:\n"
        "        failed.append([number, repr(error)])\n"
        "print(json.dumps(failed))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", runner], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )

    failed = json.loads(done.stdout.splitlines()[-1])
    assert [(with_tests[number].messages[0]["content"], error) for number, error in failed] == []
    assert len(with_tests) >= 280
    for conversation in with_tests:
        assert "assert" in conversation.tests or "test_" in conversation.tests


def test_answers_without_tests_are_prose(written: list[Conversation]) -> None:
    for conversation in written:
        if not conversation.tests:
            assert "def " not in conversation.messages[1]["content"]
            assert len(conversation.messages[1]["content"]) > 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "line 1 of x has no messages; write a list of turns"),
        ({"messages": []}, "has no messages"),
        ({"conversations": "hello"}, "has no messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "turn 1 .* has role 'tool'; use user or"),
        ({"messages": [{"role": "system", "content": "a"}]}, "has a system text alone"),
        ({"messages": [{"role": "system", "content": ""}, *TURNS]}, "turn 1 .* is empty"),
        ({"messages": [*TURNS, {"role": "system", "content": "a"}]}, "turn 3 .* has role 'system'"),
        ({"messages": TURNS[::-1]}, "turn 1 .* is the assistant's, but turns alternate"),
        ({"messages": [TURNS[0], TURNS[0]]}, "turn 2 .* make it the assistant's"),
        ({"messages": TURNS[:1]}, "ends with the user; end with the assistant's answer"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": " "}]}, "turn 2 .* is empty"),
        ({"messages": [TURNS[0], {"role": "assistant"}]}, "turn 2 .* is empty"),
        ({"conversations": [{"from": "robot", "value": "a"}]}, "is from 'robot'; use one of human, user, gpt"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]}, "turn 2 .* is empty"),
        ({"prompt": "a", "completion": ""}, "turn 2 .* is empty"),
        ({"messages": TURNS, "type": "poem"}, "has type 'poem'; use one of chat, copilot"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_line(values: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_conversation(values, "line 1 of x")


@pytest.mark.parametrize(
    "values",
    [
        {"messages": TURNS},
        {"prompt": "a", "completion": "b"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "assistant", "value": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "identity_0"},
    ],
)
def test_three_ways_to_write_a_conversation_are_one(values: dict) -> None:
    assert parse_conversation(values, "x") == Conversation(tuple(TURNS))


def test_a_system_text_is_put_before_the_first_question() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]

    assert parse_conversation({"messages": turns}, "x").messages[0]["content"] == "Be brief.\n\na"


def test_files_without_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read"):
        list(read_conversations(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"holds no conversation"):
        list(read_conversations(tmp_path / "empty.jsonl"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"is not UTF-8 text"):
        list(read_conversations(tmp_path / "binary.jsonl"))
    (tmp_path / "third.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n\n{}\n")
    with pytest.raises(DataError, match=r"line 3 of .*third.jsonl has no messages"):
        list(read_conversations(tmp_path / "third.jsonl"))
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"line 1 of .*broken.jsonl is not JSON"):
        list(read_conversations(tmp_path / "broken.jsonl"))
    (tmp_path / "list.jsonl").write_text("[]")
    with pytest.raises(DataError, match=r"line 1 of .*list.jsonl is no object"):
        list(read_conversations(tmp_path / "list.jsonl"))


# Rendering


def labelled_text(tokenizer, rendered) -> str:
    return tokenizer.decode([label for label in rendered.labels if label != NO_LOSS])


def test_the_loss_falls_on_the_assistants_words_their_stop_and_the_end_alone(tiny_tokenizer) -> None:
    turns = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "x = 1"})
    conversation = Conversation(turns * 2)

    rendered = encode_conversation(tiny_tokenizer, conversation)

    assert tiny_tokenizer.decode(rendered.ids) == (
        "## human:hi|<end>|## assistant: x = 1|<end>|" * 2 + tiny_tokenizer.eos_token
    )
    assert labelled_text(tiny_tokenizer, rendered) == " x = 1|<end>|" * 2 + tiny_tokenizer.eos_token
    answer = tiny_tokenizer.encode_text(" x = 1|<end>|")
    assert sum(label != NO_LOSS for label in rendered.labels) == 2 * len(answer) + 1
    assert all(label in (NO_LOSS, token) for token, label in zip(rendered.ids, rendered.labels, strict=True))


def test_the_chat_template_is_prefix_preserving(tiny_tokenizer, written: list[Conversation]) -> None:
    turns = [turn for conversation in written[:4] for turn in conversation.messages]
    texts = [tiny_tokenizer.apply_chat_template(turns[: count + 1], tokenize=False) for count in range(len(turns))]

    for shorter, longer in pairwise(texts):
        assert longer.startswith(shorter)
    prompt = tiny_tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert texts[1].startswith(prompt)


def test_a_prompt_is_what_an_answer_is_rendered_behind(tiny_tokenizer, written: list[Conversation]) -> None:
    for conversation in written[:50]:
        prompt = encode_prompt(tiny_tokenizer, conversation.prompt)
        rendered = encode_conversation(tiny_tokenizer, conversation)

        assert rendered.ids[: len(prompt)] == prompt
        assert set(rendered.labels[: len(prompt)]) == {NO_LOSS}
        assert NO_LOSS not in rendered.labels[len(prompt) :]


def test_special_tokens_in_a_conversation_stay_text(tiny_tokenizer) -> None:
    turns = (
        {"role": "user", "content": "<|endoftext|>"},
        {"role": "assistant", "content": "<fim_middle> <|endoftext|>"},
    )

    ids = encode_conversation(tiny_tokenizer, Conversation(turns)).ids

    special = set(tiny_tokenizer.all_special_ids)
    assert [token for token in ids if token in special] == [tiny_tokenizer.eos_token_id]
    assert ids[-1] == tiny_tokenizer.eos_token_id


def test_copilot_turns_are_raw_and_fill_the_middle(tiny_tokenizer) -> None:
    fill = "<fim_prefix>def f(x):\n    return <fim_suffix>\n<fim_middle>"
    turns = ({"role": "user", "content": fill}, {"role": "assistant", "content": "x + 1"})

    rendered = encode_conversation(tiny_tokenizer, Conversation(turns, kind="copilot"))

    prompt = tiny_tokenizer.encode_infilling("def f(x):\n    return ", "\n")
    answer = [*tiny_tokenizer.encode_text("x + 1"), tiny_tokenizer.eos_token_id]
    assert rendered.ids == [*prompt, *answer]
    assert rendered.labels == [*[NO_LOSS] * len(prompt), *answer]
    plain = Conversation(({"role": "user", "content": "import "}, turns[1]), kind="copilot")
    assert encode_conversation(tiny_tokenizer, plain).ids == [*tiny_tokenizer.encode_text("import "), *answer]
    broken = Conversation(({"role": "user", "content": "<fim_prefix>a<fim_middle>"}, turns[1]), kind="copilot")
    with pytest.raises(DataError, match="is not <fim_prefix>"):
        encode_conversation(tiny_tokenizer, broken)


def test_long_conversations_are_split_and_no_token_is_lost(tiny_tokenizer) -> None:
    rendered = EncodedConversation(list(range(10)), [NO_LOSS] * 4 + list(range(4, 10)))

    assert split_conversation(rendered, 20) == [rendered]
    pieces = split_conversation(rendered, 3)
    assert [piece.ids for piece in pieces] == [[3, 4, 5], [6, 7, 8]]
    assert [piece.labels for piece in pieces] == [[NO_LOSS, 4, 5], [6, 7, 8]]


def test_a_reward_model_reads_a_policys_words_as_it_learnt_them(tiny_tokenizer) -> None:
    prompt = [{"role": "user", "content": "hi"}]
    learnt = encode_answer(tiny_tokenizer, prompt, "x = 1")
    said = [*prompt, {"role": "assistant", "content": " x = 1|<end>|"}]

    read = tiny_tokenizer.apply_chat_template(said, chat_template=POLICY_TEMPLATE, return_dict=True)["input_ids"]

    assert read == learnt
    unfinished = [*prompt, {"role": "assistant", "content": " x = 1"}]
    text = tiny_tokenizer.apply_chat_template(unfinished, chat_template=POLICY_TEMPLATE, tokenize=False)
    assert text.endswith("## assistant: x = 1")


# Preferences


def write_lines(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_pairs_survive_writing_and_equal_answers_are_counted(tmp_path: Path) -> None:
    pair = Pair(({"role": "user", "content": "q"},), "good", "bad", "tests", "assert True")
    write_pairs(tmp_path / "pairs.jsonl", [pair, replace(pair, rejected=" good ")])

    reading = read_pairs(tmp_path / "pairs.jsonl")

    assert reading.pairs == [pair]
    assert reading.dropped == {"chosen equals rejected": 1}


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": "good", "rejected": "bad"},
        {
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
    ],
)
def test_the_ways_to_write_a_pair_are_one(tmp_path: Path, line: dict) -> None:
    pair = read_pairs(write_lines(tmp_path / "p.jsonl", line)).pairs[0]

    assert (pair.prompt, pair.chosen, pair.rejected) == (({"role": "user", "content": "q"},), "good", "bad")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "q", "chosen": "a"}, "line 1 .* lacks chosen or rejected"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "is empty"),
        ({"chosen": "a", "rejected": "b"}, "is the assistant's, but turns alternate"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "a"},
            r"no pair to learn from \(1 because chosen equals rejected\)",
        ),
        (
            {
                "chosen": [{"role": "user", "content": "q"}, TURNS[1]],
                "rejected": [{"role": "user", "content": "other"}, TURNS[1]],
            },
            "answers to two different prompts",
        ),
        ({"prompt": "q", "chosen": TURNS[:1], "rejected": "b"}, "make it the assistant's"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(tmp_path: Path, line: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write_lines(tmp_path / "p.jsonl", line))


def test_pairs_by_verdict_join_good_with_bad_and_each_bad_one_once() -> None:
    prompt = [{"role": "user", "content": "q"}]
    answers = ["a", "b", " a ", "c", "d", ""]
    verdicts = [True, False, True, False, False, False]

    pairs = pair_by_verdict(prompt, answers, verdicts, max_pairs=9, source="tests", rng=random.Random(0))

    assert {pair.chosen for pair in pairs} == {"a"}
    assert sorted(pair.rejected for pair in pairs) == ["b", "c", "d"]
    assert len(pair_by_verdict(prompt, answers, verdicts, max_pairs=2, source="tests", rng=random.Random(0))) == 2
    for same in (True, False):
        assert pair_by_verdict(prompt, ["a", "b"], [same] * 2, max_pairs=9, source="t", rng=random.Random(0)) == []


# Answers


def test_answers_do_not_depend_on_their_batch_and_stop_at_the_stop(tiny_model, tiny_tokenizer) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    prompts = [[{"role": "user", "content": text}] for text in ("hi", "a longer question than that", "x")]
    options = {"per_prompt": 2, "max_new_tokens": 6, "seed": 3}

    greedy = [
        sample_answers(model, tiny_tokenizer, prompts, temperature=0.0, batch_size=size, **{**options, "per_prompt": 1})
        for size in (1, 8)
    ]
    drawn = [sample_answers(model, tiny_tokenizer, prompts, temperature=1.0, batch_size=8, **options) for _ in range(2)]

    assert greedy[0] == greedy[1]
    assert drawn[0] == drawn[1]
    assert [len(some) for some in drawn[0]] == [2, 2, 2]
    assert not any(answer.is_finished for some in greedy[0] for answer in some if answer.tokens == 6)


def test_a_models_stop_ends_its_answer(tiny_model, tiny_tokenizer) -> None:
    """A head that always says the same line: the answer ends where the line has the stop."""
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    said = tiny_tokenizer.encode_text(" x|<end>| never seen")

    prompt = [{"role": "user", "content": "hi"}]
    start = len(encode_prompt(tiny_tokenizer, prompt))
    original = model.forward

    def say_the_line(*, position_ids: torch.Tensor, **inputs: object) -> object:
        output = original(position_ids=position_ids, **inputs)
        token = said[(int(position_ids[0, -1]) + 1 - start) % len(said)]
        output.logits[:, -1] = 100.0 * torch.nn.functional.one_hot(torch.tensor(token), output.logits.shape[-1])
        return output

    model.forward = say_the_line

    answer = sample_answers(
        model, tiny_tokenizer, [prompt], per_prompt=1, max_new_tokens=30, temperature=0.0, batch_size=1, seed=0
    )[0][0]

    assert (answer.text, answer.is_finished) == ("x", True)
    assert answer.tokens < 12
    assert answer.turn == {"role": "assistant", "content": "x|<end>|"}


def test_code_is_taken_out_of_an_answer() -> None:
    assert extract_code("x = 1") == "x = 1"
    assert extract_code("Sure:\n```python\nx = 1\ny = 2\n```\nand\n```\nz\n```") == "x = 1\ny = 2"
    assert extract_code("```\nx = 1") == "x = 1"
    assert clean_answer(" a |<end>| b") == ("a", True)
    assert clean_answer(" a ") == ("a", False)


# Rewards


def says(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_tests_reward_finished_code_that_passes() -> None:
    answers = says(" x = 1|<end>|", " x = 2|<end>|", " x = 1", " x = 1|<end>|", "```\nx = 1\n```|<end>|")
    with open_sandbox("none", workers=1) as sandbox:
        rewards = TestsReward(sandbox)(completions=answers, tests=["assert x == 1"] * 3 + [None, "assert x == 1"])

    assert rewards == [1.0, 0.0, 0.0, None, 1.0]


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


# Intervals


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 experiments of 64 prompts: 95 % intervals miss a true change of 0.1 between 2 and 22 times.

    A percentile bootstrap of 64 values covers about 94 %; the odds of a false alarm are below 1 in 1,000.
    """
    rng = np.random.default_rng(5)
    missed = 0
    for experiment in range(200):
        before = rng.normal(0.3, 0.2, size=64)
        change = measure_change(before, before + rng.normal(0.1, 0.3, size=64), seed=experiment, resamples=1000)
        missed += not change.low <= 0.1 <= change.high

    assert 2 <= missed <= 26


def test_only_the_same_prompts_are_compared() -> None:
    with pytest.raises(DataError, match="2 and 1 prompts cannot be compared"):
        measure_change([1.0, 2.0], [1.0])


# Nano's tasks


def test_the_tasks_are_what_their_script_writes_and_their_answers_pass(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "recipes.nano.tasks", str(tmp_path)], check=True, capture_output=True)
    prompts: list[str] = []
    programs: list[Program] = []
    for name in ("tasks-tuning", "tasks-feedback", "tasks-held-out"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA.parent / f"{name}.jsonl").read_bytes()
        for task in read_conversations(DATA.parent / f"{name}.jsonl"):
            prompts.append(task.messages[0]["content"])
            programs.append(Program(task.messages[1]["content"], task.tests or ""))

    assert len(set(prompts)) == len(prompts) == 1196
    with open_sandbox("none") as sandbox:
        assert all(verdict.passed for verdict in sandbox.run(programs))


# The judge


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serve_judge() as opened:
        yield opened


PROMPT = [{"role": "user", "content": "q"}]


def test_a_judge_is_asked_in_both_orders_and_remembers(endpoint: Endpoint, tmp_path: Path) -> None:
    key = "not-a-real-one"
    judge = Judge(Client(endpoint.url, "judge", key), JsonLinesCache(tmp_path / "judge.jsonl"), 10)

    assert judge.compare(PROMPT, "x", "xx") == 1
    assert judge.compare(PROMPT, "xx", "x") == 0
    assert (endpoint.requests, endpoint.key) == (2, "Bearer not-a-real-one")
    with (tmp_path / "judge.jsonl").open("a") as file:
        file.write('{"key": "cut')
    again = Judge(Client(endpoint.url, "judge"), JsonLinesCache(tmp_path / "judge.jsonl"), 0)
    assert again.compare(PROMPT, "x", "xx") == 1
    assert endpoint.requests == 2
    assert again.compare(PROMPT, "new", "newer") is None
    assert "not-a-real-one" not in (tmp_path / "judge.jsonl").read_text()


def test_a_judge_that_favours_a_place_or_is_undecided_decides_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    judge = Judge(Client(endpoint.url, "judge"), JsonLinesCache(tmp_path / "judge.jsonl"), 10)

    for favour in ("A", "tie", "I cannot say"):
        endpoint.favours = favour
        assert judge.compare(PROMPT, f"x {favour}", "xx") is None


def test_a_judge_that_fails_is_asked_again_and_then_given_up(endpoint: Endpoint, tmp_path: Path) -> None:
    judge = Judge(Client(endpoint.url, "judge", tries=3), JsonLinesCache(tmp_path / "j.jsonl"), 10)
    endpoint.failures = 2
    assert judge.compare(PROMPT, "x", "xx") == 1

    endpoint.failures = 3
    with pytest.raises(RunFailed, match=r"did not answer after 3 tries"):
        judge.compare(PROMPT, "y", "yy")
