"""Speed of generation in `evaluate`, in batches by length with a shared prefill, beside transformers' `generate`.

python -m benchmarks.generation runs/nano/pretrain/model recipes/nano/data/benchmarks/humaneval.jsonl [--samples 5]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.evaluate.generation import Completion, ModelGenerator, Question
from codeshell_hf.evaluate.problems import read_humaneval, read_problems
from codeshell_hf.evaluate.profiles import find_profile
from codeshell_hf.loading import load_model
from codeshell_hf.text.sampling import Sampling

Answers = dict[str, list[str]]


def make_questions(path: Path, samples: int, new_tokens: int) -> list[Question]:
    """Makes requests with greedy decoding, so that both sides must generate the same text."""
    profile = find_profile("humaneval-greedy-v1")
    return [
        Question(problem.id, profile.make_prompt(problem, ()), Sampling(new_tokens, samples=samples))
        for problem in read_problems(path, read_humaneval)
    ]


def answer_in_batches(model, tokenizer, questions: list[Question], batch_size: int) -> Answers:
    """Answers them with the generator of `evaluate`."""
    answers: Answers = {}

    def keep(question: Question, completions: list[Completion]) -> None:
        answers[question.id] = [completion.text for completion in completions]

    ModelGenerator(model, tokenizer, batch_size=batch_size).generate(questions, keep)
    return answers


@torch.no_grad()
def answer_one_by_one(model, tokenizer, questions: list[Question]) -> Answers:
    """Answers them as most harnesses do: one call of transformers' `generate` per sample."""
    answers: Answers = {}
    for question in questions:
        ids = torch.tensor([tokenizer.encode_text(question.prompt.text)])
        answers[question.id] = []
        for _ in range(question.sampling.samples):
            written = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=question.sampling.max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )[0, ids.shape[1] :]
            text = tokenizer.decode(written[written != tokenizer.eos_token_id])
            answers[question.id].append(text)
    return answers


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="of HumanEval's form")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    add_output(parser)
    options = parser.parse_args(arguments)
    model = load_model(str(options.model), dtype=torch.float32).eval()
    tokenizer = CodeShellTokenizer.from_pretrained(options.model)
    questions = make_questions(options.data, options.samples, options.new_tokens)
    ways: dict[str, Callable[[], Answers]] = {
        f"batches of {options.batch_size}": lambda: answer_in_batches(model, tokenizer, questions, options.batch_size),
        "one at a time": lambda: answer_one_by_one(model, tokenizer, questions),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        answers = []
        for name, way in ways.items():
            started = time.perf_counter()
            answers.append(way())
            seconds[name].append(time.perf_counter() - started)
        same = sum(answers[0][key] == answers[1][key] for key in answers[0])
        # Near ties may be decided differently in a batch; more differences are an error.
        if same < 0.95 * len(questions):
            print(
                f"only {same} of {len(questions)} problems have the same answers; nothing is measured", file=sys.stderr
            )
            return 1
    facts = [
        f"{len(questions)} problems of {options.samples} samples, {options.new_tokens} tokens at most",
        f"{same} answered alike by both, {options.repeats} repeats",
    ]
    columns = {"answers/s": "20", "median": "10.1f", "least": "10.1f", "most": "10.1f"}
    table = Result(describe_machine("torch", "transformers"), facts, columns).start("benchmarks.generation", arguments)
    total = len(questions) * options.samples
    for name, measured in seconds.items():
        table.add_rates(name, [total / each for each in measured])
    ratios = [slow / fast for fast, slow in zip(*seconds.values(), strict=True)]
    table.note(f"ratio, run by run: {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
