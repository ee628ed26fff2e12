"""Single-line fill-in-the-middle of models trained with three variants of FIM, on files of an unseen package.

python -m benchmarks.infilling runs/infilling --shards runs/nano/pack --tokenizer runs/nano/tokenizer [--seeds 2]

The models have nano's shape and differ in what is rearranged: whole documents between tokens, before they are cut into
rows; pieces between tokens; or pieces between characters and lines, in best-fit rows, as the recipe does. Models of one
seed start from the same weights. Lines are chosen, prompted and scored as in `evaluate`. Besides exact matches, bits
per byte of the line and the end of text are measured, since small models rarely get a line exactly right. The benchmark
stops unless every line is from the files.
"""

import argparse
import math
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.result import Result, add_output, describe_machine
from benchmarks.training import add_training, list_pretraining, load, pad, run_stage
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.evaluate.line_infilling import first_line, take_lines
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.profiles import find_profile
from codeshell_hf.pack.infilling import rearrange_for_infilling
from codeshell_hf.pack.shard_writer import EncodedDocument, write_encoded
from codeshell_hf.text.decode import Decoder, Output, Request
from codeshell_hf.text.intervals import change_interval, ratio_interval, share_interval
from codeshell_hf.text.sampling import Sampling
from codeshell_hf.text.shards import TokenShards

COLUMNS = {"model": "32", "exact": "8", "bits a byte": "13.3f", "low": "8.3f", "high": "8.3f"}
RATE, SPM_RATE = 0.9, 0.5
TOGETHER = 16
FIRST, CUT, RECIPE = "rearranged, then cut", "cut, then rearranged", "the recipe"
NAMES = {FIRST: "first", CUT: "cut", RECIPE: "recipe"}  # of folders


def rearrange_documents(shards: TokenShards, seed: int) -> Iterator[EncodedDocument]:
    """Rearranges whole documents between tokens."""
    assert shards.header.sentinels is not None
    for number, name in enumerate(shards.read_ids()):
        rng = np.random.default_rng([seed, number])
        ids = shards[number].astype(np.int64)
        is_rearranged, suffix_first = rng.random() < RATE, bool(rng.random() < SPM_RATE)
        start, end = sorted(rng.integers(0, len(ids) + 1, 2).tolist())
        if is_rearranged:
            ids = rearrange_for_infilling(
                ids, (start, end), suffix_first=suffix_first, sentinels=shards.header.sentinels
            )
        yield EncodedDocument(name, shards.languages[number], "rearranged", int(shards.bytes[number]), ids)


def prepare(options: argparse.Namespace) -> None:
    """Writes shards of rearranged documents, one set per seed."""
    shards = TokenShards(options.shards / "train")
    for seed in range(options.seeds):
        folder = options.home / f"rearranged-{seed}" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        write_encoded(rearrange_documents(shards, seed), shards.header, folder)


def list_runs(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Settings of the models of each variant, one per seed."""
    by_token = f"infilling={{rate: {RATE}, spm_rate: {SPM_RATE}, cuts: {{token: 1.0}}}}"
    runs: dict[str, list[list[str]]] = {FIRST: [], CUT: [], RECIPE: []}
    for seed in range(options.seeds):
        settings = {
            FIRST: [f"shards={options.home}/rearranged-{seed}", "infilling=null", "rows.packing=end-to-end"],
            CUT: [f"shards={options.shards}", by_token, "rows.packing=end-to-end"],
            RECIPE: [f"shards={options.shards}", f"infilling.rate={RATE}", f"infilling.spm_rate={SPM_RATE}"],
        }
        for way, own in settings.items():
            shared = list_pretraining(options, options.home / f"{NAMES[way]}-{seed}", seed=seed)
            data = [f"tokenizer={options.tokenizer}", f"evaluation.shards={options.shards}"]
            runs[way].append([*data, *own, *shared])
    return runs


def train(options: argparse.Namespace) -> dict[str, list[Path]]:
    """Trains the missing models; returns the folders of each variant."""
    prepare(options)
    folders: dict[str, list[Path]] = {}
    for way, runs in list_runs(options).items():
        for overrides in runs:
            run_stage("pretrain", overrides)
        folders[way] = [options.home / f"{NAMES[way]}-{seed}" / "model" for seed in range(options.seeds)]
    return folders


def read_problems(package: str, lines: int) -> list[Problem]:
    """Removes a line from each of some files of an installed package."""
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
    """Bits of each line, including the end of text after it."""
    prompts = [tokenizer.encode_infilling(one.prompt, one.suffix or "", max_tokens=prompt_tokens) for one in problems]
    lines = [[*tokenizer.encode_text(str(one.reference)), tokenizer.eos_token_id] for one in problems]
    bits = []
    for first in range(0, len(problems), TOGETHER):
        rows = list(zip(prompts[first : first + TOGETHER], lines[first : first + TOGETHER], strict=True))
        ids = pad([[*prompt, *line] for prompt, line in rows], model.device)
        logits = model(input_ids=ids, use_cache=False).logits.float()
        for row, (prompt, line) in enumerate(rows):
            place = slice(len(prompt), len(prompt) + len(line))
            before = logits[row, len(prompt) - 1 : len(prompt) + len(line) - 1]
            loss = torch.nn.functional.cross_entropy(before, ids[row, place], reduction="sum")
            bits.append(loss.item() / math.log(2))
    return bits


def fill_in(
    model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer, problems: Sequence[Problem], prompt_tokens: int
) -> list[bool]:
    """Whether the first line of the greedy answer is the one that was removed."""
    limit = Sampling(find_profile("held-out-lines-v1").max_new_tokens)
    requests = [
        Request(one.id, tokenizer.encode_infilling(one.prompt, one.suffix or "", max_tokens=prompt_tokens), limit)
        for one in problems
    ]
    answers: dict[str, str] = {}

    def take(request: Request, outputs: list[Output]) -> None:
        answers[request.id] = outputs[0].text

    Decoder(model, tokenizer, batch_size=8 * TOGETHER).decode(requests, take)
    return [first_line(answers[one.id]).strip() == str(one.reference).strip() for one in problems]


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infilling", description=__doc__)
    parser.add_argument("home", type=Path, help="folder for the models; what is up to date is not trained again")
    parser.add_argument("--shards", type=Path, required=True, help="output of pack")
    parser.add_argument("--tokenizer", type=Path, required=True, help="that of the shards")
    parser.add_argument("--package", default="pandas", help="an installed one that the shards do not hold")
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--answers", type=int, default=100, help="lines that are also generated, which takes longest")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    add_training(parser, tokens=348_160, step_tokens=2048)
    add_output(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    options = read_options(arguments)
    problems = read_problems(options.package, options.lines)
    folder = Path(sysconfig.get_paths()["purelib"]) / options.package
    texts = {path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    if not problems or any(f"{one.prompt}{one.reference}{one.suffix}" not in texts for one in problems):
        print("a line is none of its file's; nothing is measured", file=sys.stderr)
        return 1
    sizes = [len(str(problem.reference).encode("utf-8")) for problem in problems]
    facts = [
        f"{options.tokens:,} tokens to train on, in steps of {options.step_tokens:,}",
        f"{len(problems)} lines of {options.package}, one of a file, prompts of up to {options.prompt_tokens} tokens",
    ]
    trained = train(options)
    table = Result(describe_machine("torch"), facts, COLUMNS).start("benchmarks.infilling", arguments)
    measured: dict[str, list[tuple[list[float], list[bool]]]] = {}
    for way, folders in trained.items():
        for seed, one in enumerate(folders):
            model, tokenizer = load(one), CodeShellTokenizer.from_pretrained(one)
            bits = score_bits(model, tokenizer, problems, options.prompt_tokens)
            exact = fill_in(model, tokenizer, problems[: options.answers], options.prompt_tokens)
            low, high = ratio_interval(bits, [float(size) for size in sizes])
            table.add(f"{way}, seed {seed}", f"{sum(exact)}", sum(bits) / sum(sizes), low, high)
            measured.setdefault(way, []).append((bits, exact))
    # Means over seeds per line, so that lines are resampled.
    per_line = {way: np.mean([bits for bits, _ in some], axis=0) for way, some in measured.items()}
    mean_size = sum(sizes) / len(sizes)
    for before, after in ((FIRST, CUT), (CUT, RECIPE), (FIRST, RECIPE)):
        low, high = change_interval(per_line[before].tolist(), per_line[after].tolist())
        change = float((per_line[after] - per_line[before]).mean()) / mean_size
        interval = f"[{low / mean_size:+.3f}, {high / mean_size:+.3f}]"
        table.note(f"{after}, beside {before}: {change:+.3f} bits a byte {interval}")
    for way, some in measured.items():
        right, asked = sum(sum(exact) for _, exact in some), sum(len(exact) for _, exact in some)
        low, high = share_interval(right, asked)
        table.note(f"exact, {way}: {right} of {asked}, {right / asked:.1%} [{low:.1%}, {high:.1%}]")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
