"""Held-out files: what is scored, and what a model and counting alone need for a byte."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from codeshell_hf.evaluate.generation import Completion, OnDone, Question
from codeshell_hf.evaluate.held_out_files import HeldOutFiles, fill_in_lines, score_bits_per_byte
from codeshell_hf.evaluate.models import EvaluatedModel
from codeshell_hf.evaluate.results import ResultCache
from codeshell_hf.evaluate.settings import BitsPerByteSettings, HeldOutLineSettings
from tests.pack.letters import make_shards

TRAINED = ["abcabcabc\n" * 3, "abz\n"]
BODY = "import os\n\ndef area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2.0), os.name)\n"
HELD_OUT = ["abc\n", BODY]


@pytest.fixture
def files(tmp_path: Path) -> HeldOutFiles:
    """Two training files and two held-out ones, of which the second is too long to be scored."""
    rows = [
        {"id": f"d{number}", "language": "python", "text": text, "split": split}
        for split, texts in (("train", TRAINED), ("held-out", HELD_OUT))
        for number, text in enumerate(texts)
    ]
    (tmp_path / "documents").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents" / "part-00000.parquet")
    make_shards(tmp_path / "held-out", HELD_OUT)
    settings = BitsPerByteSettings(max_bytes_per_language=20, window_tokens=3)
    return HeldOutFiles.read(tmp_path, tmp_path, settings)


def count_naively(trained: Sequence[str], text: str) -> float:
    """Bits per byte by Witten and Bell's method C, one byte after the other."""
    seen: Counter[bytes] = Counter()
    for each in trained:
        data = b"\n\n" + each.encode()
        for end in range(3, len(data) + 1):
            for order in (1, 2, 3):
                seen[data[end - order : end]] += 1

    def probability(gram: bytes) -> float:
        """Of the last byte behind the others; shorter ones count what was seen at the end of a longer one."""
        lower = probability(gram[1:]) if len(gram) > 1 else 1 / 256
        behind = [seen[gram[:-1] + bytes([byte])] for byte in range(256)]
        total, kinds = sum(behind), sum(count > 0 for count in behind)
        return (seen[gram] + kinds * lower) / (total + kinds) if total else lower

    data = b"\n\n" + text.encode()
    return -sum(math.log2(probability(data[end - 3 : end])) for end in range(3, len(data) + 1)) / len(text.encode())


def test_long_documents_are_left_out_and_counting_is_measured_on_what_is_scored(files: HeldOutFiles) -> None:
    assert files.describe() == {"documents": 1, "bytes": 4}
    assert files.trigram_bits_per_byte == pytest.approx(count_naively(TRAINED, "abc\n"), abs=1e-4)


class Uniform(nn.Module):
    """Finds all tokens equally likely."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 320))


def test_a_uniform_guess_costs_the_vocabularys_logarithm_and_is_measured_once(
    files: HeldOutFiles, tmp_path: Path
) -> None:
    cache = ResultCache(tmp_path / "kept", "code")
    model = EvaluatedModel("m", identity={"weights": "a"}, model=Uniform())

    bits, interval = score_bits_per_byte(model, files, cache)

    expected = round(math.log2(320), 4)  # a letter is a token and a byte
    assert bits == {"all": expected, "python": expected}
    assert list(interval["all"]) == [expected, expected]
    model.model = None
    assert score_bits_per_byte(model, files, cache) == (bits, interval)
    other = EvaluatedModel("m", identity={"weights": "b"})
    with pytest.raises(ValueError, match="m is not in memory"):
        score_bits_per_byte(other, files, cache)


class Parrot:
    """Answers every question with the same text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.questions: list[Question] = []

    def generate(self, questions: Sequence[Question], on_done: OnDone) -> None:
        for question in questions:
            self.questions.append(question)
            on_done(question, [Completion(self.text, 1, "stop")])


@pytest.mark.parametrize(("written", "exact"), [("\n  {line}\nmore", 1), ("x", 0)])
def test_the_first_line_that_is_filled_in_counts(files: HeldOutFiles, tmp_path: Path, written: str, exact: int) -> None:
    task = files.make_infilling_task(HeldOutLineSettings(per_language=4, max_prompt_tokens=64), seed=0)
    (problem,) = task.problems  # the other file has too few lines
    parrot = Parrot(written.format(line=problem.reference))

    scores, shown = fill_in_lines(EvaluatedModel("m", generator=parrot), task, tmp_path / "kept", seed=0)

    assert f"{problem.prompt}{problem.reference}{problem.suffix}" == BODY
    assert (parrot.questions[0].prompt.suffix, parrot.questions[0].prompt.max_tokens) == (problem.suffix, 64)
    assert (scores["all"]["tasks"], scores["all"]["exact"]) == (1, exact)
    assert shown[0]["is_exact"] == bool(exact)
