"""Speed of curation without its learned part, and its memory by the size of the corpus.

python -m benchmarks.curation [--megabytes 100] [--plain]    one core, real files, by step
python -m benchmarks.curation --profile [--megabytes 30]     processor time of each measurement, on the same files
python -m benchmarks.curation --cores 1 2 [--megabytes 100]  seconds by number of cores, in turns, on the same files
python -m benchmarks.curation --memory 2.5 5 [--plain]       gigabytes of synthetic code, all cores

The first stops if kept and dropped documents do not add up. The profile runs each function alone, and counts the time
of processes that it starts; what is measured of survivors is not paid for what cheap rules and duplicates drop. The
third runs the recipe in processes of its own, each on so many cores, and stops if they keep different documents. The
last runs the recipe in a process of its own and sums the memory of all its processes, counting shared pages once.
`--plain` leaves out syntax and linting, which take more than half of the time.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.near_duplicates import read_texts
from benchmarks.result import Result, add_output, describe_machine, list_cores

ROOT = Path(__file__).parents[1]

VOCABULARY = [f"{first}_{second}" for first in "get set make find read write load save parse sort".split()  # noqa: SIM905
              for second in "row part name value item list state node path text line key".split()]  # noqa: SIM905  # fmt: skip
SAMPLE_S = 0.25


def write_files(texts: list[bytes], folder: Path) -> None:
    """Writes files of Python, 500 in each folder."""
    for place, text in enumerate(texts):
        path = folder / f"{place // 500:03d}" / f"{place}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def run_steps(options: argparse.Namespace) -> int:
    """Runs the funnel on one core and prints the seconds of each step."""
    megabytes, is_plain = options.megabytes, options.plain
    os.sched_setaffinity(0, {max(list_cores())})
    from codeshell_hf.curate import daft_engine
    from recipes.curate import Settings, curate

    texts = read_texts(megabytes)
    size = sum(map(len, texts)) / 1e6
    daft_engine.start("local")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "in")
        write_files(texts, folder)
        settings = Settings.model_validate(
            {
                "output": Path(home, "out"),
                "sources": [{"name": "files", "path": str(folder)}],
                "cache": Path(home, "cache"),
                "engine": {"part_bytes": 10**12},
                "repeated_text": {},
                "perplexity": {"sample_bytes": 8_000_000, "order": 3},
                "reads_syntax": not is_plain,
                "lints": not is_plain,
            }
        )
        seconds: dict[str, float] = {}
        last = ["list", time.perf_counter()]

        def show(step: str, done: int, total: int) -> None:
            now = time.perf_counter()
            seconds[str(last[0])] = seconds.get(str(last[0]), 0.0) + now - float(last[1])
            last[:] = [step, now]

        started = time.perf_counter()
        outcome = curate(settings, settings.output, compute_dtype="float32", on_progress=show)
        whole = time.perf_counter() - started
    counts = outcome.funnel.counts()
    if counts["documents_before"] != len(texts) or counts["documents_before"] != counts["documents_after"] + sum(
        counts["dropped"].values()
    ):
        print(f"{counts['documents_before']} documents do not add up; nothing is measured", file=sys.stderr)
        return 1
    table = Result(
        describe_machine(cores=f"one core of {os.cpu_count()}"),
        [f"{len(texts):,} files, {size:.1f} MB; {counts['documents_after']:,} stay"],
        {"step": "20", "seconds": "9.1f", "MB/s": "9,.1f"},
    ).start("benchmarks.curation", options.given)
    for step, value in sorted(seconds.items(), key=lambda item: -item[1]):
        if value >= 0.005 * sum(seconds.values()):
            table.add(step, value, size / value)
    table.add("the whole funnel", whole, size / whole)
    table.keep(options.json)
    return 0


def count_cpu_s() -> float:
    """Seconds of processor time of this process and its children that have ended."""
    import resource  # not on Windows

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(times.ru_utime + times.ru_stime for times in used)


def list_measurements(data: list[bytes], folder: Path) -> list[tuple[str, str, Callable[[], object]]]:
    """Each measurement with the documents that it is of, in order."""
    from codeshell_hf.curate.benchmark_tasks import make_task
    from codeshell_hf.curate.decontamination import Decontaminator
    from codeshell_hf.curate.languages import refine_language
    from codeshell_hf.curate.ngrams import load_scorer, train, write_arpa
    from codeshell_hf.curate.redaction import redact_all
    from codeshell_hf.curate.repetition import hash_pieces
    from codeshell_hf.curate.shingles import shingle, sign
    from codeshell_hf.curate.signals import measure
    from codeshell_hf.curate.standards import lint
    from codeshell_hf.curate.syntax import _parse_in_time, load_query, parse_here
    from codeshell_hf.curate.text_encodings import decode_text
    from codeshell_hf.curate.words import split_code

    texts = [one.decode() for one in data]
    # Solutions of the same kind as the files: functions of the standard library.
    tasks = [make_task({"prompt": "", "canonical_solution": text[:600]}) for text in texts[::40]]
    decontaminator = Decontaminator({"made": tasks})
    words = [split_code(text[:8000]) for text in texts]
    write_arpa(train(iter(words[:300]), order=3, min_word_count=2), folder / "a.arpa")
    score = load_scorer(folder / "a.arpa")
    loaded = load_query("python")
    assert loaded is not None
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    lint(["x = 1\n"])
    redact_all(["x = 1\n"])  # compiles its scan
    shingles = shingle(data)

    def batches(values: list, size: int = 500) -> Iterator[list]:
        return (values[first : first + size] for first in range(0, len(values), size))

    cheap, dear = "all", "survivors"
    return [
        ("decode", cheap, lambda: [decode_text(one) for one in data]),
        ("language", cheap, lambda: [refine_language("a.py", None, one) for one in data]),
        ("signals", cheap, lambda: [measure(text, "python") for text in texts]),
        ("shingles", cheap, lambda: shingle(data)),
        ("MinHash", cheap, lambda: sign(shingles, bands=22, rows=5)),
        ("MD5", cheap, lambda: [hashlib.md5(one, usedforsecurity=False).hexdigest() for one in data]),
        ("paragraphs (off)", cheap, lambda: [hash_pieces(text, "paragraph", min_bytes=120) for text in texts]),
        (
            "Parquet",
            cheap,
            lambda: pq.write_table(table, folder / "a.parquet", compression="zstd", compression_level=1),
        ),
        ("parse", dear, lambda: [_parse_in_time(loaded[0], one) for one in data]),
        ("parse and query", dear, lambda: [parse_here(one, "python") for one in data]),
        ("ruff", dear, lambda: [lint(some) for some in batches(texts)]),
        (
            "benchmarks",
            dear,
            lambda: [decontaminator.find_all(some, ["python"] * len(some)) for some in batches(data)],
        ),
        ("words (8,000 characters)", dear, lambda: [split_code(text[:8000]) for text in texts]),
        ("perplexity", dear, lambda: [score(some) for some in batches(words)]),
        ("redaction", dear, lambda: [redact_all(some) for some in batches(texts)]),
    ]


def run_profile(options: argparse.Namespace) -> int:
    """Prints the processor time of each measurement."""
    data = read_texts(options.megabytes)
    size = sum(map(len, data)) / 1e6
    columns = {"measurement": "26", "of": "11", "ms/MB": "9.1f"}
    table = Result(describe_machine(), [f"{len(data):,} files, {size:.1f} MB"], columns)
    table.start("benchmarks.curation", options.given)
    with tempfile.TemporaryDirectory() as home:
        for name, documents, run in list_measurements(data, Path(home)):
            began = count_cpu_s()
            run()
            table.add(name, documents, 1000 * (count_cpu_s() - began) / size)
    table.keep(options.json)
    return 0


def write_corpus(folder: Path, gigabytes: float) -> None:
    """Writes synthetic Python files of 10 kB as JSON Lines, a tenth of them near duplicates of an earlier file."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    lines = [
        f"    {rng.choice(VOCABULARY)} = {rng.choice(VOCABULARY)}({rng.choice(VOCABULARY)}, {rng.randrange(10**6)})\n"
        for _ in range(200_000)
    ]
    recent: list[str] = []
    for shard in range(round(gigabytes * 10)):
        with (folder / f"{shard:04d}.jsonl").open("w", encoding="utf-8") as file:
            written = 0
            while written < 100_000_000:
                if recent and rng.random() < 0.1:
                    text = rng.choice(recent) + f"# copy {rng.randrange(10**9)}\n"
                else:
                    start = rng.randrange(len(lines) - 200)
                    body = "".join(rng.sample(lines[start : start + 5000], 200))
                    text = f"def {rng.choice(VOCABULARY)}_{rng.randrange(10**9)}(path):\n{body}"
                    recent = [*recent[-50:], text]
                row = json.dumps({"content": text, "path": "a.py"}) + "\n"
                file.write(row)
                written += len(row)


def measure_scaling(options: argparse.Namespace) -> int:
    """Runs the recipe on several numbers of cores, in turns, and prints the median seconds of each."""
    texts = read_texts(options.megabytes)
    size = sum(map(len, texts)) / 1e6
    seconds: dict[int, list[float]] = {cores: [] for cores in options.cores}
    kept: set[str] = set()
    usable = list_cores()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as home:
        write_files(texts, Path(home, "in"))
        for turn in range(options.repeats):
            for cores in options.cores:
                output = Path(home, f"out-{cores}-{turn}")
                settings = {
                    "output": str(output),
                    "sources": [{"name": "files", "path": f"{home}/in"}],
                    "engine": {"part_bytes": max(1_000_000, int(size * 1e6) // (8 * max(options.cores)))},
                    "perplexity": {"sample_bytes": 8_000_000, "order": 3},
                    "reads_syntax": not options.plain,
                    "lints": not options.plain,
                }
                Path(home, "c.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
                command = [sys.executable, "-m", "recipes.curate", f"{home}/c.yaml"]
                os.sched_setaffinity(0, sorted(usable)[:cores])  # processes inherit it
                started = time.perf_counter()
                try:
                    status = subprocess.run(command, cwd=ROOT, check=False).returncode
                finally:
                    os.sched_setaffinity(0, usable)
                if status:
                    return 1
                seconds[cores].append(time.perf_counter() - started)
                documents = sorted((output / "documents").glob("*.parquet"))
                kept.add(hashlib.sha256(b"".join(path.read_bytes() for path in documents)).hexdigest())
    if len(kept) > 1:
        print("the numbers of cores keep different documents; nothing is measured", file=sys.stderr)
        return 1
    columns = {"cores": "5", "seconds": "9.1f", "MB/s": "7.1f", "times the first": "16.2f"}
    facts = [f"{len(texts):,} files, {size:.1f} MB; median of {options.repeats} turns, with the start of all processes"]
    table = Result(describe_machine(), facts, columns).start("benchmarks.curation", options.given)
    medians = {cores: statistics.median(values) for cores, values in seconds.items()}
    for cores, median in medians.items():
        table.add(str(cores), median, size / median, medians[options.cores[0]] / median)
    table.keep(options.json)
    return 0


def measure_memory(options: argparse.Namespace) -> int:
    """Runs the recipe on corpora of several sizes and prints the peak memory."""
    import psutil

    is_plain = options.plain
    columns = {"GB": "6", "documents": "12,", "near": "9,", "seconds": "9.0f", "MB/s": "7.1f", "peak GB": "9.2f"}
    table = Result(describe_machine(), [], columns).start("benchmarks.curation", options.given)
    for size in options.memory:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as home:
            write_corpus(Path(home, "in"), size)
            settings = {
                "output": f"{home}/out",
                "sources": [{"name": "made", "kind": "jsonl", "path": f"{home}/in"}],
                "perplexity": {"sample_bytes": 8_000_000, "order": 3},
                "reads_syntax": not is_plain,
                "lints": not is_plain,
                "rules": {"min_letter_fraction": None},
            }
            Path(home, "c.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            started = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-m", "recipes.curate", f"{home}/c.yaml"], cwd=ROOT)
            peak = 0
            while process.poll() is None:
                peak = max(peak, add_memory(psutil.Process(process.pid)))
                time.sleep(SAMPLE_S)
            seconds = time.perf_counter() - started
            if process.returncode:
                return 1
            counts = json.loads(Path(home, "out", "funnel.json").read_text(encoding="utf-8"))
        near = counts["dropped"].get("near-duplicate", 0)
        table.add(f"{size:g}", counts["documents_before"], near, seconds, size * 1000 / seconds, peak / 1e9)
    table.keep(options.json)
    return 0


def add_memory(parent: "object") -> int:
    """Memory of a process and its children, shared pages counted once."""
    import psutil

    total = 0
    try:
        for process in [parent, *parent.children(recursive=True)]:  # type: ignore[attr-defined]
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curation", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--memory", type=float, nargs="+", metavar="GB", help="sizes of synthetic corpora")
    parser.add_argument("--cores", type=int, nargs="+", metavar="N", help="numbers of cores to compare")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each number of cores")
    parser.add_argument("--profile", action="store_true", help="processor time of each measurement")
    parser.add_argument("--plain", action="store_true", help="leave out syntax and linting")
    add_output(parser)
    options = parser.parse_args(arguments)
    options.given = arguments
    if options.memory:
        return measure_memory(options)
    if options.cores:
        return measure_scaling(options)
    return run_profile(options) if options.profile else run_steps(options)


if __name__ == "__main__":
    sys.exit(main())
