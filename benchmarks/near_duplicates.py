"""Speed of near-duplicate detection on one core, from text to clusters, and its false positives.

python -m benchmarks.near_duplicates [--megabytes 200] [--repeats 3] [--peers PYTHON]

On files of the Python environment. PYTHON is an interpreter with datatrove 0.10 or text-dedup 0.4; each runs pinned to
one core, as ours does. The ground truth is the exact Jaccard similarity of 5-word shingles of every pair that a search
with low precision and high recall proposes. A document is removed wrongly if it is near to none that stays, and missed
if it stays and is near to another that does; the benchmark stops unless ours agrees with that.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.result import Result, add_output, describe_machine, list_cores

MIN_JACCARD, BANDS, ROWS = 0.7, 22, 5
DATATROVE = """
import json, sys, time
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.minhash import *
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.pipeline.dedup import MinhashDedupFilter
from datatrove.utils.logging import logger
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WhitespaceTokenizer, WordTokenizer
import re
logger.remove()
class Words(WordTokenizer):
    def word_tokenize(self, text): return re.findall(r"[A-Za-z0-9_]+|[^\\x00-\\x7f]", text)
    def sent_tokenize(self, text): return [text]
    def span_tokenize(self, text): return [(0, len(text))]
folder, out = sys.argv[1:]
norm = TextNormConfig(False, False, False, False, False, False, False)
config = MinhashConfig(norm_config=norm)
started = time.perf_counter()
for number, step in enumerate((
    [JsonlReader(folder), MinhashDedupSignature(out + "/sig", config=config, language=Words())],
    [MinhashDedupBuckets(out + "/sig", out + "/buckets", config=config)],
    [MinhashDedupCluster(out + "/buckets", out + "/remove", config=config)],
    [JsonlReader(folder), MinhashDedupFilter(out + "/remove"), JsonlWriter(out + "/kept", compression=None)],
)):
    tasks = 14 if isinstance(step[0], MinhashDedupBuckets) else 1
    LocalPipelineExecutor(step, tasks=tasks, workers=1, logging_dir=f"{out}/log/{number}").run()
seconds = time.perf_counter() - started
import glob
kept = [json.loads(line)["id"] for path in glob.glob(out + "/kept/*") for line in open(path)]
print("RESULT", json.dumps({"seconds": seconds, "kept": kept}))
"""
TEXT_DEDUP = """
import datasets, json, subprocess, sys, time
folder, out = sys.argv[1:]
command = [sys.executable, "-m", "text_dedup.minhash", "--path", "json", "--data_files", folder + "/texts.jsonl",
    "--split", "train", "--column", "text", "--output", out + "/kept", "--cache_dir", out + "/cache", "--num_proc", "1",
    "--ngram", "5", "--threshold", "0.7", "--num_perm", "112", "--b", "14", "--r", "8", "--min_length", "1",
    "--hash_func", "xxh3", "--hash_bits", "32"]
started = time.perf_counter()
subprocess.run(command, check=True)
seconds = time.perf_counter() - started
print("RESULT", json.dumps({"seconds": seconds, "kept": datasets.load_from_disk(out + "/kept")["id"][:]}))
"""


def read_texts(megabytes: float) -> list[bytes]:
    """Files of the standard library and installed packages without exact duplicates, in random order."""
    paths = sysconfig.get_paths()
    found: dict[bytes, bytes] = {}
    for folder in (paths["stdlib"], paths["purelib"]):
        for path in sorted(Path(folder).rglob("*.py")):
            data = path.read_bytes()[:500_000]
            if data.strip() and b"\0" not in data:
                found.setdefault(hashlib.md5(data, usedforsecurity=False).digest(), data)
    texts, size = [], 0
    for _, data in sorted(found.items()):
        try:
            data.decode()
        except UnicodeDecodeError:
            continue
        texts.append(data)
        size += len(data)
        if size >= megabytes * 1e6:
            break
    return texts


def find_truth(texts: list[bytes]) -> dict[int, set[int]]:
    """The documents that each one is near to, by exact Jaccard."""
    from codeshell_hf.curate.shingles import find_sets, measure_jaccard, shingle, sign

    shingles = shingle(texts)
    sets = find_sets(shingles)
    pairs: set[tuple[int, int]] = set()
    for band in sign(shingles, bands=40, rows=3, seed=7).T:
        buckets = defaultdict(list)
        for place, value in enumerate(band.tolist()):
            if len(sets[place]):
                buckets[value].append(place)
        for members in buckets.values():
            pairs.update(combinations(members[:400], 2))
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        sizes = len(sets[a]), len(sets[b])
        if min(sizes) >= MIN_JACCARD * max(sizes) and measure_jaccard(sets[a], sets[b]) >= MIN_JACCARD:
            near[a].add(b)
            near[b].add(a)
    return dict(near)


def run_ours(path: Path, folder: Path) -> None:
    """Finds near duplicates of a Parquet file of texts, in this process; prints the seconds and the documents kept."""
    import daft

    from codeshell_hf.curate import daft_engine
    from codeshell_hf.curate.duplicates import find_near_duplicates
    from codeshell_hf.curate.settings import NearDuplicates
    from codeshell_hf.curate.shingles import shingle, sign

    daft_engine.start("local")
    shingle([b"warm up"])
    started = time.perf_counter()
    signed = []
    for batch in pq.ParquetFile(path).iter_batches(1000, columns=["key", "text"]):
        shingles = shingle(batch["text"].cast(pa.large_binary()).to_pylist())
        bands = sign(shingles, bands=BANDS, rows=ROWS)
        lists = pa.ListArray.from_arrays(np.arange(len(batch) + 1, dtype=np.int32) * BANDS, pa.array(bands.ravel()))
        columns = {"key": batch["key"], "bands": lists, "shingles": np.diff(shingles.offsets)}
        signed.append(pa.table(columns))
    table = pa.concat_tables(signed)
    count = table.num_rows
    table = table.append_column("standing", pa.array([0.5] * count, pa.float32()))
    table = table.append_column("stars", pa.array([0] * count, pa.int64()))
    table = table.append_column("id", pa.array([f"{place:09d}" for place in range(count)]))
    options = NearDuplicates(min_jaccard=MIN_JACCARD, bands=BANDS, rows=ROWS)
    found, counts = find_near_duplicates(daft.from_arrow(table), [path], folder / "work", options)
    seconds = time.perf_counter() - started
    dropped = set(found["key"].to_pylist())
    kept = [str(place) for place in range(count) if place not in dropped]
    print("RESULT", json.dumps({"seconds": seconds, "kept": kept, **counts}))


def run_pinned(command: list[str], core: int) -> dict[str, object] | None:
    """Runs a process on one core and reads its result."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        print(done.stderr[-400:], file=sys.stderr)
        return None
    return json.loads(found[-1].removeprefix("RESULT "))


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=200.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", type=Path, help="interpreter with datatrove and text-dedup")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    add_output(parser)
    options = parser.parse_args(arguments)
    if options.ours:
        run_ours(options.ours, options.ours.parent)
        return 0
    texts = read_texts(options.megabytes)
    size = sum(map(len, texts)) / 1e6
    truth = find_truth(texts)
    facts = [f"{len(texts):,} files, {size:.1f} MB, {len(truth):,} of them near another one by exact Jaccard"]
    columns = {
        "one core": "26", "seconds": "9.2f", "MB/s": "8.1f", "spread": "8.0%", "removed": "9,.0f", "wrongly": "9,.0f",
        "recall": "8.1%",
    }  # fmt: skip
    machine = describe_machine(cores=f"one core of {os.cpu_count()}")
    table = Result(machine, facts, columns).start("benchmarks.near_duplicates", arguments)
    core = min(list_cores())
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        rows = [text.decode() for text in texts]
        pq.write_table(
            pa.table({"key": pa.array(range(len(rows)), pa.int64()), "text": pa.array(rows, pa.large_string())}),
            folder / "texts.parquet",
            row_group_size=1000,
        )
        (folder / "json").mkdir()
        with (folder / "json" / "texts.jsonl").open("w", encoding="utf-8") as file:
            for place, text in enumerate(rows):
                file.write(json.dumps({"id": str(place), "text": text}, ensure_ascii=False) + "\n")
        ours = [sys.executable, "-m", "benchmarks.near_duplicates", "--ours", str(folder / "texts.parquet")]
        contenders: dict[str, list[str]] = {"codeshell_hf, verified": ours}
        if options.peers:
            contenders["datatrove, regex words"] = [str(options.peers), "-c", DATATROVE, str(folder / "json")]
            contenders["text-dedup"] = [str(options.peers), "-c", TEXT_DEDUP, str(folder / "json")]
        for name, command in contenders.items():
            seconds, found = [], None
            for repeat in range(options.repeats if name.startswith("codeshell") else 1):
                given = command if name.startswith("codeshell") else [*command, str(folder / f"{name[:4]}{repeat}")]
                found = run_pinned(given, core)
                if found is None:
                    break
                seconds.append(float(found["seconds"]))  # type: ignore[arg-type]
            if found is None:
                table.note(f"{name} could not run")
                continue
            kept = {int(place) for place in found["kept"]}  # type: ignore[attr-defined]
            removed = len(texts) - len(kept)
            dropped = [place for place in range(len(texts)) if place not in kept]
            wrongly = sum(truth.get(place, set()).isdisjoint(kept) for place in dropped)
            missed = sum(not others.isdisjoint(kept) for place, others in truth.items() if place in kept)
            right = removed - wrongly
            recall = right / (right + missed) if right + missed else 1.0
            if name.startswith("codeshell") and (wrongly or recall < 0.95):
                print(f"ours removes {wrongly} wrongly and finds {recall:.1%}; nothing is measured", file=sys.stderr)
                return 1
            middle = statistics.median(seconds)
            spread = (max(seconds) - min(seconds)) / middle
            table.add(name, middle, size / middle, spread, removed, wrongly, recall)
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
