"""Evaluation: bits per byte and fill-in-the-middle against plain counts."""

import math

import numpy as np
import pytest
import torch

from codeshell_hf.evaluate.byte_trigram import ByteTrigram
from codeshell_hf.evaluate.generation import ModelGenerator, Request
from codeshell_hf.evaluate.infilling import find_line, score_lines, show_lines, take_lines
from codeshell_hf.evaluate.posing import Prompt
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.text.bits_per_byte import score_documents
from codeshell_hf.text.held_out import choose_evenly
from codeshell_hf.text.intervals import change_interval, mean_interval, ratio_interval, share_interval

TEXT = "import os\n\ndef area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2.0), os.name)\n"


def test_bits_per_byte_equal_a_token_by_token_count(tiny_model) -> None:
    model = tiny_model(n_positions=64)
    documents = [
        ("python", torch.randint(0, 320, (length,)).numpy().astype(np.uint16), 3 * length) for length in (50, 1, 9, 23)
    ]

    scores = score_documents(model, documents, window_tokens=8, vocab_size=320)

    bits = 0.0
    for _, ids, _ in documents:
        bits += math.log2(320)
        for place in range(1, len(ids)):
            first = (place - 1) // 7 * 7  # windows of 8 that share one token
            with torch.no_grad():
                logits = model(torch.from_numpy(ids[first:place].astype(np.int64))[None]).logits[0, -1]
            bits -= torch.log_softmax(logits.double(), -1)[int(ids[place])].item() / math.log(2)
    assert scores["all"].bytes == scores["python"].bytes == 3 * 83
    assert scores["all"].bits == pytest.approx(bits, rel=1e-4)
    low, high = scores["all"].interval
    assert low <= scores["all"].bits_per_byte <= high
    assert scores["all"].bits_per_byte == pytest.approx(bits / 249, rel=1e-4)


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say(share: float) -> None:
    drawn = np.random.default_rng(0).binomial(114, share, size=2000)

    held = [low <= share <= high for low, high in (share_interval(int(count), 114) for count in drawn)]

    assert 0.93 < np.mean(held) < 0.985
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_interval(5, 5)[1] == 1.0


def test_intervals_of_ratios_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = []
    for seed in range(300):
        sizes = generator.integers(100, 2000, size=60)
        bits = sizes * generator.normal(2.0, 0.4, size=60)
        low, high = ratio_interval(bits, sizes, seed=seed, resamples=400)
        held.append(low <= 2.0 <= high)

    assert 0.9 < np.mean(held) < 0.98
    assert ratio_interval([4.0], [2.0]) == (2.0, 2.0)


def test_documents_are_taken_until_a_language_is_full() -> None:
    chosen = choose_evenly(["a", "a", "b", "a"], [60, 60, 90, 30], max_bytes_per_language=100)

    assert chosen == [0, 2, 3]


def test_trigram_probabilities_add_up_to_one() -> None:
    model = ByteTrigram().train([b"abracadabra" * 20, bytes(range(256))])

    sums = model._smooth().sum(-1)

    assert np.allclose(sums, 1.0)


def test_trigram_learns_what_repeats() -> None:
    model = ByteTrigram().train([b"abcd" * 500])

    assert model.score([b"abcd" * 50]) < 0.3
    assert model.score([bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8))]) > 6


def test_intervals_of_means_hold_the_truth_and_say_something_of_nothing() -> None:
    generator = np.random.default_rng(0)
    held = []
    for seed in range(300):
        low, high = mean_interval(generator.beta(2, 3, size=80), seed=seed, resamples=400)
        held.append(low <= 0.4 <= high)

    assert 0.9 < np.mean(held) < 0.98
    assert mean_interval([0.0] * 114) == share_interval(0, 114)


def test_a_change_on_the_same_problems_is_told_sooner_than_two_means() -> None:
    before = np.random.default_rng(0).random(60)

    low, high = change_interval(before, before + 0.05)

    assert low == pytest.approx(0.05)
    assert high == pytest.approx(0.05)
    first, second = mean_interval(before), mean_interval(before + 0.05)
    assert first[1] > second[0]


def test_lines_are_taken_out_and_put_back() -> None:
    documents = [{"id": f"d{index}", "language": "python", "text": TEXT} for index in range(5)]

    lines = take_lines([*documents, {"id": "short", "language": "c", "text": "x\n"}], per_language=3, seed=1)

    assert len(lines) == 3
    for line in lines:
        assert line.prompt + line.reference + line.suffix == TEXT
        assert 8 <= len(line.reference.strip()) <= 80
    assert lines == take_lines(documents, per_language=3, seed=1)


@pytest.mark.parametrize("max_tokens", [16, 40, 400])
def test_prompts_keep_what_is_nearest(tiny_model, tiny_tokenizer, max_tokens: int) -> None:
    before, after = "a = 1\n" * 50, "\nc = 3" * 50
    generator = ModelGenerator(tiny_model(vocab_size=len(tiny_tokenizer)), tiny_tokenizer, batch_size=1)

    prompt = generator.encode(Prompt(before, after, max_tokens=max_tokens))

    whole = generator.encode(Prompt(before, after))
    assert len(prompt) <= max_tokens
    text = tiny_tokenizer.decode(prompt)
    prefix, suffix = text.removeprefix("<fim_prefix>").removesuffix("<fim_middle>").split("<fim_suffix>")
    assert before.endswith(prefix)
    assert after.startswith(suffix)
    if len(whole) <= max_tokens:
        assert prompt == whole


def test_exact_matches_are_counted_by_language() -> None:
    lines = [
        Problem("a", "python", "x\n", "\ny", "    return 1"),
        Problem("b", "python", "x\n", "\ny", "    return 2"),
        Problem("c", "c", "longer prefix\n" * 40, "\ny", "return 1"),
    ]
    written = {line.key: find_line("\n \n  return 1\nmore") for line in lines}

    scores = score_lines(lines, written)

    assert scores["python"].items() >= {"tasks": 2, "exact": 1, "exact_match": 0.5}.items()
    assert scores["all"].items() >= {"tasks": 3, "exact": 2, "exact_match": 0.6667}.items()
    assert scores["all"]["low"] < 0.6667 < scores["all"]["high"]
    shown = show_lines(lines, written)
    assert [row["is_exact"] for row in shown] == [True, True, False]
    assert max(len(row["prefix"]) for row in shown) == 240


def test_batches_answer_as_single_prompts_do(tiny_model, tiny_tokenizer) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer), n_positions=128)
    documents = [{"id": str(index), "language": "python", "text": TEXT * (1 + index)} for index in range(4)]
    lines = take_lines(documents, per_language=4, seed=0)
    requests = [
        Request(line.key, Prompt(line.prompt, line.suffix, max_tokens=64), 1, (), 48, None, 0.0, 1.0, 0)
        for line in lines
    ]
    answers: list[dict[str, str]] = []
    for batch_size in (4, 1):
        answers.append({})
        ModelGenerator(model, tiny_tokenizer, batch_size=batch_size).generate(
            requests, lambda request, found: answers[-1].update({request.id: found[0].text})
        )

    assert answers[0] == answers[1]
    assert len(answers[0]) == 4
