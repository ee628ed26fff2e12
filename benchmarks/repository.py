"""Bits per byte of a file after the files of its own repository, after another's, and without context.

python -m benchmarks.repository runs/repository [--tokens 1000000] [--row-tokens 1024] [--targets 12] [--seeds 2]

Models of nano's shape, one per seed, are trained with the recipes on repository-level documents of installed packages,
and tested on unseen packages: the first tokens of a file are scored after the same number of tokens from files of its
package, imports first or by path, from another package's files, or after the package's name only. Files of which any
piece is in the training documents are left out. `--model` measures existing models.
"""

import argparse
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
from benchmarks.training import ROOT, add_training, list_pretraining, load, pad, run_stage
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.marks import Marks, find_marks
from codeshell_hf.pack.repositories import File, order_files
from codeshell_hf.presets import count_parameters
from codeshell_hf.text.intervals import ratio_interval
from codeshell_hf.text.shards import TokenShards

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
# Vendored copies of other packages, and generated files.
_APART = ("_vendor", "vendored", "externals", "thirdparty", "tests")
EXCLUDED = tuple(f"{start}{name}/*" for name in _APART for start in ("", "*/"))
PIECE = 64  # tokens of a piece that is searched for in the training documents
OWN, BY_PATH, OTHER, NOTHING = "its imports first", "its own by path", "another repository", "nothing"


@dataclass(frozen=True)
class Target:
    """A file to score; all tokens are int64.

    Args:
        contexts: The tokens before it in its repository, by order of files, shape (C,) each.
        name: `<reponame>` and the name of its repository.
        head: `<filename>` and the path of the file.
        body: Its first tokens.
        bytes: Size of the body in UTF-8.
    """

    package: str
    contexts: dict[str, NDArray[np.int64]]
    name: NDArray[np.int64]
    head: NDArray[np.int64]
    body: NDArray[np.int64]
    bytes: int


def list_preparation(options: argparse.Namespace) -> dict[str, list[str]]:
    """The settings of the stages before training that differ from nano's."""
    home = options.home
    sources = [
        {"name": name, "path": str(PACKAGES / name), "exclude": list(EXCLUDED), "repository": "source"}
        for name in options.trained
    ]
    stages = {
        "curate": [
            f"output={home}/curate", f"sources={json.dumps(sources)}", "min_language_bytes=0", "quality=null",
            "perplexity=null", "rights.licences=null", "repeated_text=null", "lints=false", "near_duplicates=null",
        ],
        "pack": [
            f"output={home}/pack", f"documents={options.documents or home / 'curate'}",
            f"tokenizer={options.tokenizer}", f"repositories={{row_tokens: {options.row_tokens}}}",
        ],
    }  # fmt: skip
    return {"pack": stages["pack"]} if options.documents else stages


def list_runs(options: argparse.Namespace) -> list[list[str]]:
    """Settings of the models, one per seed."""
    home = options.home
    own = [
        f"shards={home}/pack/repositories", f"tokenizer={options.tokenizer}",
        f"model.start_from={options.start_from or 'null'}", f"model.changes.n_positions={options.row_tokens}",
        f"schedule.phases=[{{until_fraction: 1.0, row_tokens: {options.row_tokens}}}]", "infilling=null",
        f"evaluation.shards={home}/pack",
    ]  # fmt: skip
    return [[*list_pretraining(options, home / f"pretrain-{seed}", seed=seed), *own] for seed in range(options.seeds)]


def train(options: argparse.Namespace) -> list[Path]:
    """Runs the stages that have not been run, and returns the models' folders."""
    for name, overrides in list_preparation(options).items():
        run_stage(name, overrides)
    for overrides in list_runs(options):
        run_stage("pretrain", overrides)
    return [options.home / f"pretrain-{seed}" / "model" for seed in range(options.seeds)]


def describe_training(options: argparse.Namespace) -> str:
    """Describes the model's training."""
    if options.model:
        return "trained elsewhere"
    begun = ", after files one by one" if options.start_from else ""
    return f"{options.tokens:,} tokens of {len(options.trained)} packages in rows of {options.row_tokens}{begun}"


def read_package(folder: Path) -> list[File]:
    """The Python files of a package, in the order of their imports."""
    paths = sorted(path for path in folder.rglob("*.py") if not path.is_symlink() and path.stat().st_size > 0)
    return order_files(
        [
            File(path.relative_to(folder).as_posix(), "python", folder.name, path.read_text(encoding="utf-8"))
            for path in paths
        ]
    )


def list_targets(
    package: str, tokenizer: CodeShellTokenizer, marks: Marks, options: argparse.Namespace
) -> list[Target]:
    """Chooses files with enough tokens before them and in themselves, spread over a package."""
    files = read_package(options.packages / package)
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
        if len(contexts[OWN]) == context_tokens and len(cut) >= PIECE:
            size = len(tokenizer.decode(cut, clean_up_tokenization_spaces=False).encode())
            named = np.array([marks.repository, *name, marks.line_break], np.int64)
            targets.append(Target(package, contexts, named, np.array(head), np.array(cut), size))
    if not targets:
        return []
    chosen = np.linspace(0, len(targets) - 1, min(options.targets, len(targets))).round().astype(int)
    return [targets[index] for index in chosen]


@torch.no_grad()
def measure_bits(
    model: Any, contexts: Sequence[NDArray[np.int64]], targets: Sequence[Target], together: int = 8
) -> list[float]:
    """Bits of each target's body after its context and path."""
    rows = [
        np.concatenate([context, target.head, target.body]).tolist()
        for context, target in zip(contexts, targets, strict=True)
    ]
    bits = []
    for first in range(0, len(rows), together):
        batch = rows[first : first + together]
        ids = pad(batch, model.device)
        logits = model(input_ids=ids, use_cache=False).logits.float()
        for row, target in enumerate(targets[first : first + together]):
            start, stop = len(batch[row]) - len(target.body), len(batch[row])
            loss = torch.nn.functional.cross_entropy(
                logits[row, start - 1 : stop - 1], ids[row, start:stop], reduction="sum"
            )
            bits.append(loss.item() / math.log(2))
    return bits


def choose_context(condition: str, number: int, targets: Sequence[Target]) -> NDArray[np.int64]:
    """The context of a target; for another repository, that of the next package's first target."""
    target = targets[number]
    if condition == OTHER:
        further = [*targets[number:], *targets[:number]]
        return next(other.contexts[OWN] for other in further if other.package != target.package)
    return target.name if condition == NOTHING else target.contexts[condition]


def measure_all(model: Any, targets: Sequence[Target]) -> dict[str, list[float]]:
    """Bits of each target by condition."""
    return {
        condition: measure_bits(
            model, [choose_context(condition, number, targets) for number in range(len(targets))], targets
        )
        for condition in (OWN, BY_PATH, OTHER, NOTHING)
    }


def sum_by_package(values: Sequence[float], targets: Sequence[Target]) -> list[float]:
    """Sums over the targets of each package, in the order of the packages."""
    names = list(dict.fromkeys(target.package for target in targets))
    return [
        math.fsum(value for value, target in zip(values, targets, strict=True) if target.package == name)
        for name in names
    ]


def leave_out_trained(home: Path, targets: Sequence[Target]) -> list[Target]:
    """Drops targets of which a piece, at the start, in the middle or at the end, is in a training document."""
    shards = TokenShards(home / "pack" / "repositories" / "train")
    trained = b"".join(document.tobytes() for document in shards)

    def is_trained(target: Target) -> bool:
        rest = len(target.body) - PIECE
        pieces = (target.body[start : start + PIECE].astype(shards.header.dtype) for start in (0, rest // 2, rest))
        return any(piece.tobytes() in trained for piece in pieces)

    return [target for target in targets if not is_trained(target)]


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repository", description=__doc__.split("\n\n")[0])
    parser.add_argument("home", type=Path, help="folder for the stages' outputs; what is up to date is not run again")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "runs/nano/tokenizer", help="nano's")
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="measure these, and train none")
    parser.add_argument("--start-from", type=Path, help="a model to go on from, such as nano's; else a new one")
    parser.add_argument("--row-tokens", type=int, default=1024)
    parser.add_argument("--targets", type=int, default=12, help="files of each package at most")
    parser.add_argument("--trained", nargs="+", default=TRAINED, help="packages to train on")
    parser.add_argument("--documents", type=Path, help="output of curate to train on; else it is run here")
    parser.add_argument("--held-out", nargs="+", default=HELD_OUT, help="packages to measure on")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="folder of those; this environment's")
    add_training(parser, tokens=1_000_000, step_tokens=4096)
    add_output(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Trains, measures, and prints a table."""
    options = read_options(arguments)
    if both := set(options.trained) & set(options.held_out):
        print(f"{sorted(both)[0]} is trained on and held out; nothing is measured", file=sys.stderr)
        return 2
    models = [load(folder) for folder in options.model or train(options)]
    tokenizer = CodeShellTokenizer.from_pretrained(options.tokenizer)
    marks = find_marks(tokenizer)
    assert marks is not None
    targets = [target for package in options.held_out for target in list_targets(package, tokenizer, marks, options)]
    facts = []
    if not options.model:
        found = len(targets)
        targets = leave_out_trained(options.home, targets)
        facts.append(f"{found - len(targets)} files share {PIECE} tokens with the training documents, and are left out")
    by_model = [measure_all(model, targets) for model in models]
    # Means over seeds per file, so that packages are resampled.
    bits = {condition: np.mean([one[condition] for one in by_model], axis=0).tolist() for condition in by_model[0]}
    sizes = sum_by_package([target.bytes for target in targets], targets)
    columns = {"behind": "20", "bits/byte": "11.4f", "more": "9.4f", "low": "9.4f", "high": "9.4f", "packages": "12"}
    table = Result(
        describe_machine("torch"),
        [
            f"{count_parameters(models[0].config):,} parameters, {describe_training(options)}",
            f"{len(targets)} files of {len(sizes)} packages, {options.row_tokens // 2} tokens before each",
            *facts,
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
    if len(models) > 1:
        for seed, one in enumerate(by_model):
            differences = [sum(one[condition]) - sum(one[OWN]) for condition in (BY_PATH, OTHER, NOTHING)]
            table.note(f"seed {seed}: {', '.join(f'{some / sum(sizes):+.4f}' for some in differences)} more, by row")
    table.note("more: bits a byte beyond those behind its own files, imports first; packages that need more")
    table.note("intervals at 95 %, paired, with packages as the unit of chance")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
