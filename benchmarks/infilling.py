"""Single lines filled in by models of two ways of training, on files of a package that none of them was trained on.

python -m benchmarks.infilling --before runs/old-0/model runs/old-1/model --after runs/new-0/model runs/new-1/model

The models go in pairs, each of one seed. Lines are taken, asked for and scored as `evaluate` does; beside exact matches
stands what a model needs to predict the line and its end between its neighbours, in bits a byte, which tells small
models apart long before they get lines right. Nothing is measured unless every line is one of the files.
"""

import argparse
import math
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.evaluate.infilling import first_line, take_lines
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.profiles import find_profile
from codeshell_hf.text.intervals import change_interval, ratio_interval, share_interval

COLUMNS = {"model": "16", "exact": "8", "bits a byte": "13.3f", "low": "8.3f", "high": "8.3f"}


def read_problems(package: str, lines: int) -> list[Problem]:
    """Takes a line out of each of some files of an installed package."""
    folder = Path(sysconfig.get_paths()["purelib"]) / package
    rows = [
        {"id": path.relative_to(folder).as_posix(), "language": "python", "text": path.read_text(encoding="utf-8")}
        for path in sorted(folder.rglob("*.py"))
    ]
    return take_lines(rows, per_language=lines, seed=0)  # type: ignore[arg-type]


@torch.no_grad()
def score_bits(
    model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, problems: Sequence[Problem], prompt_tokens: int
) -> list[float]:
    """Bits of each line, with the end of text behind it."""
    bits = []
    for problem in problems:
        prompt = tokenizer.encode_infilling(problem.prompt, problem.suffix, max_tokens=prompt_tokens)
        line = [*tokenizer.encode_text(str(problem.reference)), tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *line]])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")
        bits.append(loss.item() / math.log(2))
    return bits


@torch.no_grad()
def fill_in(
    model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, problems: Sequence[Problem], prompt_tokens: int
) -> list[bool]:
    """Whether the greedy answer's first line is the one that was taken out."""
    limit = find_profile("held-out-lines-v1").max_new_tokens
    found = []
    for problem in problems:
        prompt = tokenizer.encode_infilling(problem.prompt, problem.suffix, max_tokens=prompt_tokens)
        ids = model.generate(
            torch.tensor([prompt]), max_new_tokens=limit, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        text = tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)
        found.append(first_line(text).strip() == str(problem.reference).strip())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infilling", description=__doc__)
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    parser.add_argument("--package", default="pandas")
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--answers", type=int, default=100, help="lines that are also generated, which takes longest")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    add_output(parser)
    options = parser.parse_args(arguments)
    problems = read_problems(options.package, options.lines)
    folder = Path(sysconfig.get_paths()["purelib"]) / options.package
    texts = {path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    if not problems or any(f"{one.prompt}{one.reference}{one.suffix}" not in texts for one in problems):
        print("a line is none of its file's; nothing is measured", file=sys.stderr)
        return 1
    sizes = [len(str(problem.reference).encode("utf-8")) for problem in problems]
    facts = [
        f"{len(problems)} lines of {options.package}, one of a file, prompts of up to {options.prompt_tokens} tokens"
    ]
    table = Result(describe_machine("torch"), facts, COLUMNS).start("benchmarks.infilling", arguments)
    measured: dict[str, list[tuple[list[float], list[bool]]]] = {"before": [], "after": []}
    for way, folders in (("before", options.before), ("after", options.after)):
        for number, one in enumerate(folders):
            model = CodeShellForCausalLM.from_pretrained(one, dtype=torch.float32).eval()
            tokenizer = CodeShellTokenizer.from_pretrained(one)
            bits = score_bits(model, tokenizer, problems, options.prompt_tokens)
            exact = fill_in(model, tokenizer, problems[: options.answers], options.prompt_tokens)
            low, high = ratio_interval(bits, [float(size) for size in sizes])
            table.add(f"{way}, {number}", f"{sum(exact)}", sum(bits) / sum(sizes), low, high)
            measured[way].append((bits, exact))
    # Each line's mean over the seeds, so that lines are the unit of chance.
    per_line = {way: np.mean([bits for bits, _ in some], axis=0) for way, some in measured.items()}
    mean_size = sum(sizes) / len(sizes)
    low, high = change_interval(per_line["before"].tolist(), per_line["after"].tolist())
    change = float((per_line["after"] - per_line["before"]).mean())
    table.note(f"change: {change / mean_size:+.3f} bits a byte [{low / mean_size:+.3f}, {high / mean_size:+.3f}]")
    for way, some in measured.items():
        right, asked = sum(sum(exact) for _, exact in some), sum(len(exact) for _, exact in some)
        low, high = share_interval(right, asked)
        table.note(f"exact {way}: {right} of {asked}, {right / asked:.1%} [{low:.1%}, {high:.1%}]")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
