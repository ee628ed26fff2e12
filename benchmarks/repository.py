"""Bits per byte of a file behind the files of its own repository, behind another's, and behind nothing.

python -m benchmarks.repository runs/repository [--tokens 1000000] [--row-tokens 1024] [--targets 12]

A model of nano's shape is trained by the recipes on joined documents of installed packages, and read on packages that
it has never seen: a file's first tokens behind as many tokens of its package's files, imports first or by path, of
another package's files, and of nothing but the package's name. The tokens that are scored are the same each time.
Nothing is measured unless no held-out package is among the training documents. `--model` measures one that is there.
"""

import argparse
import contextlib
import importlib
import io
import json
import math
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.pack.marks import Marks, find_marks
from codeshell_hf.pack.repositories import File, order_files
from codeshell_hf.presets import count_parameters
from codeshell_hf.stages.stage import main as run
from codeshell_hf.text.intervals import ratio_interval
from codeshell_hf.text.shards import TokenShards

ROOT = Path(__file__).parents[1]
PACKAGES = Path(sysconfig.get_paths()["purelib"])
TRAINED = (
    *("PIL", "_pytest", "absl", "accelerate", "aiohttp", "anyio", "datasets", "deepspeed", "fastapi", "fsspec", "gguf"),
    *(
        "google",
        "hypothesis",
        "joblib",
        "mpmath",
        "mypy",
        "narwhals",
        "networkx",
        "nltk",
        "opentelemetry",
        "peft",
        "pip",
    ),
    *("pydantic", "rich", "setuptools", "tensorboard", "torchgen", "trl"),
)
HELD_OUT = (
    *("attr", "click", "detect_secrets", "einops", "evaluate", "filelock", "httpcore2", "importlinter", "jinja2"),
    *("markdown", "markdown_it", "packaging", "pathspec", "requests", "sacrebleu", "starlette", "tqdm", "urllib3"),
    *("uvicorn", "werkzeug"),
)
# Copies of other packages within packages, and what is no code of anybody's.
EXCLUDED = ("*/_vendor/*", "*/vendored/*", "*/externals/*", "*/thirdparty/*", "*/tests/*")
OWN, BY_PATH, OTHER, NOTHING = "its imports first", "its own by path", "another repository", "nothing"


@dataclass(frozen=True)
class Target:
    """A file to score; all tokens are int64.

    Args:
        contexts: What stands before it in its repository, by order, shape (C,) each.
        name: The mark and name of its repository.
        head: The mark and path of the file.
        body: Its first tokens.
        bytes: Of the body in UTF-8.
    """

    package: str
    contexts: dict[str, NDArray[np.int64]]
    name: NDArray[np.int64]
    head: NDArray[np.int64]
    body: NDArray[np.int64]
    bytes: int


def list_stages(options: argparse.Namespace) -> dict[str, list[str]]:
    """The settings of each stage that differ from nano's."""
    home = options.home
    sources = [
        {"name": name, "path": str(PACKAGES / name), "exclude": list(EXCLUDED), "repository": "source"}
        for name in options.trained
    ]
    return {
        "curate": [
            f"output={home}/curate", f"sources={json.dumps(sources)}", "min_language_bytes=0", "quality=null",
            "perplexity=null", "rights.licences=null", "repeated_text=null", "lints=false", "near_duplicates=null",
        ],
        "pack": [
            f"output={home}/pack", f"documents={home}/curate", f"tokenizer={options.tokenizer}",
            f"repositories={{row_tokens: {options.row_tokens}}}",
        ],
        "pretrain": [
            f"output={home}/pretrain", f"shards={home}/pack/repositories", f"tokenizer={options.tokenizer}",
            f"model.start_from={options.start_from or 'null'}", f"model.changes={{n_positions: {options.row_tokens}}}",
            f"schedule.total_tokens={options.tokens}",
            f"schedule.warmup_tokens={options.tokens // 20}", f"schedule.phases={json.dumps(phases(options))}",
            f"batch={{global_tokens: {options.step_tokens}, micro_tokens: {options.step_tokens}}}", "infilling=null",
            f"evaluation={{shards: {home}/pack, max_bytes_per_language: 100000}}", "checkpoint.every_steps=200",
        ],
    }  # fmt: skip


def phases(options: argparse.Namespace) -> list[dict[str, float]]:
    """One length of rows."""
    return [{"until_fraction": 1.0, "row_tokens": options.row_tokens}]


def train(options: argparse.Namespace) -> Path:
    """Runs the stages that have not been run, and gives the model's folder."""
    for name, overrides in list_stages(options).items():
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(
                importlib.import_module(f"recipes.{name}").STAGE, [str(ROOT / f"recipes/nano/{name}.yaml"), *overrides]
            )
        if code:
            raise SystemExit(f"{name} failed, and nothing is measured")
    return Path(options.home, "pretrain", "model")


def describe_training(options: argparse.Namespace) -> str:
    """What the model has seen."""
    if options.model is not None:
        return "trained elsewhere"
    begun = ", after files one by one" if options.start_from else ""
    return f"{options.tokens:,} tokens of {len(options.trained)} packages in rows of {options.row_tokens}{begun}"


def read_package(name: str) -> list[File]:
    """The Python files of an installed package, in the order of their imports."""
    folder = PACKAGES / name
    paths = sorted(path for path in folder.rglob("*.py") if not path.is_symlink() and path.stat().st_size > 0)
    return order_files(
        [File(path.relative_to(folder).as_posix(), "python", name, path.read_text(encoding="utf-8")) for path in paths]
    )


def list_targets(
    package: str, tokenizer: CodeShellTokenizer, marks: Marks, options: argparse.Namespace
) -> list[Target]:
    """Files of a package that have enough tokens before them and 64 or more of their own, spread over the package."""
    files = read_package(package)
    texts = [package, *(text for file in files for text in (file.path, file.text))]
    name, *encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    heads = [[marks.file, *path, marks.line_break] for path in encoded[::2]]
    bodies = encoded[1::2]
    whole = [np.array([*head, *body], np.int64) for head, body in zip(heads, bodies, strict=True)]
    by_path = sorted(range(len(files)), key=lambda number: files[number].path)
    context_tokens = options.row_tokens // 2
    targets: list[Target] = []
    for number, (head, body) in enumerate(zip(heads, bodies, strict=True)):
        place = by_path.index(number)
        # By path, the files behind it come before the first, so that there are always enough.
        orders = {OWN: list(range(number)), BY_PATH: [*by_path[place + 1 :], *by_path[:place]]}
        contexts = {
            order: np.concatenate([np.array([], np.int64), *(whole[one] for one in numbers)])[-context_tokens:]
            for order, numbers in orders.items()
        }
        cut = body[: options.row_tokens - context_tokens - len(head)]
        if len(contexts[OWN]) == context_tokens and len(cut) >= 64:
            size = len(tokenizer.decode(cut, clean_up_tokenization_spaces=False).encode())
            named = np.array([marks.repository, *name, marks.line_break], np.int64)
            targets.append(Target(package, contexts, named, np.array(head), np.array(cut), size))
    if not targets:
        return []
    chosen = np.linspace(0, len(targets) - 1, min(options.targets, len(targets))).round().astype(int)
    return [targets[index] for index in chosen]


@torch.no_grad()
def measure_bits(model: Any, context: NDArray[np.int64], target: Target) -> float:
    """Bits of a target's body behind a context and its path."""
    ids = torch.from_numpy(np.concatenate([context, target.head, target.body]))[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, -len(target.body) - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -len(target.body) :], reduction="sum")) / math.log(2)


def choose_context(condition: str, number: int, targets: Sequence[Target]) -> NDArray[np.int64]:
    """What stands before a target: of another repository, what stands before the next package's first target there."""
    target = targets[number]
    if condition == OTHER:
        further = [*targets[number:], *targets[:number]]
        return next(other.contexts[OWN] for other in further if other.package != target.package)
    return target.name if condition == NOTHING else target.contexts[condition]


def measure_all(model: Any, targets: Sequence[Target]) -> dict[str, list[float]]:
    """Bits of each target by condition."""
    return {
        condition: [
            measure_bits(model, choose_context(condition, number, targets), target)
            for number, target in enumerate(targets)
        ]
        for condition in (OWN, BY_PATH, OTHER, NOTHING)
    }


def sum_by_package(values: Sequence[float], targets: Sequence[Target]) -> list[float]:
    """Sums over the targets of each package, in the order of the packages."""
    names = list(dict.fromkeys(target.package for target in targets))
    return [
        math.fsum(value for value, target in zip(values, targets, strict=True) if target.package == name)
        for name in names
    ]


def is_apart(home: Path, targets: Sequence[Target]) -> bool:
    """Whether no target's body lies in the training shards."""
    shards = TokenShards(home / "pack" / "repositories" / "train")
    trained = b"".join(np.asarray(document, np.int64).tobytes() for document in shards)
    return not any(target.body[:64].tobytes() in trained for target in targets)


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads what is to be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repository", description=__doc__.split("\n\n")[0])
    parser.add_argument("home", type=Path, help="folder for the stages' outputs; what is up to date is not run again")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "runs/nano/tokenizer", help="nano's")
    parser.add_argument("--model", type=Path, help="measure this one, and train none")
    parser.add_argument("--start-from", type=Path, help="a model to go on from, such as nano's; else a new one")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="to train on")
    parser.add_argument("--row-tokens", type=int, default=1024)
    parser.add_argument("--step-tokens", type=int, default=4096)
    parser.add_argument("--targets", type=int, default=12, help="files of each package at most")
    parser.add_argument("--trained", nargs="+", default=TRAINED, help="packages to train on")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, help="packages to measure on")
    add_output(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Trains, measures, and prints a table."""
    options = read_options(arguments)
    if both := set(options.trained) & set(options.held_out):
        print(f"{sorted(both)[0]} is trained on and held out; nothing is measured", file=sys.stderr)
        return 2
    model = CodeShellForCausalLM.from_pretrained(options.model or train(options)).eval()
    tokenizer = CodeShellTokenizer.from_pretrained(options.tokenizer)
    marks = find_marks(tokenizer)
    assert marks is not None
    targets = [target for package in options.held_out for target in list_targets(package, tokenizer, marks, options)]
    if options.model is None and not is_apart(options.home, targets):
        print("a file that is measured lies in the training documents; nothing is measured", file=sys.stderr)
        return 1
    bits = measure_all(model, targets)
    sizes = sum_by_package([target.bytes for target in targets], targets)
    columns = {"behind": "20", "bits/byte": "11.4f", "more": "9.4f", "low": "9.4f", "high": "9.4f", "packages": "12"}
    table = Result(
        describe_machine("torch"),
        [
            f"{count_parameters(model.config):,} parameters, {describe_training(options)}",
            f"{len(targets)} files of {len(sizes)} packages, {options.row_tokens // 2} tokens before each",
        ],
        columns,
    ).start("benchmarks.repository", arguments)
    own = sum_by_package(bits[OWN], targets)
    for condition, values in bits.items():
        mine = sum_by_package(values, targets)
        more = [one - two for one, two in zip(mine, own, strict=True)]
        rest: list[float | str] = []
        if condition != OWN:
            worse = sum(one > 0 for one in more)
            rest = [sum(more) / sum(sizes), *ratio_interval(more, sizes), f"{worse} of {len(sizes)}"]
        table.add(condition, sum(mine) / sum(sizes), *rest)
    table.note("more: bits a byte beyond those behind its own files, imports first; packages that need more")
    table.note("intervals at 95 %, paired, with packages as the unit of chance")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
