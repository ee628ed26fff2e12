"""The six systems at a toy size: raw files of every kind that their recipes name, and their settings, shrunk."""

import gzip
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.settings import read_yaml
from tests.recipes.good_documents import write_starcoder

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "recipes" / "nano" / "data" / "benchmarks"
SOURCES = ROOT / "src" / "codeshell_hf"
TALKS = [
    "conversations",
    "instructions",
    "dialogues",
    "code",
    "reasoning",
    "generation",
    "debugging",
    "prompts",
    "held-out-prompts",
]
WORDS = sorted(set(re.findall("[a-z]{3,9}", (ROOT / "README.md").read_text(encoding="utf-8"))))
PAIRS = ("preferences", "pairs")
CLONED = ("curate", "evaluate")
QUESTIONS = [(f"make x {number}", f"x = {number}", f"assert x == {number}") for number in range(12)]
CHINESE = (ROOT / "tokenizer" / "data" / "chinese-python-docs.jsonl").read_text(encoding="utf-8").splitlines()
# Level 1 of GB/T 2312 always gets an entry.
VOCABULARY = {"merged": 5000, "unigram": 700, "bpe": 500}


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def read_programs() -> Iterator[tuple[str, str, str]]:
    """Repository, path and text of this package's files, a folder as one repository, but those that are cloned."""
    for path in sorted(SOURCES.rglob("*.py")):
        if path.parent.name in CLONED:
            continue
        yield f"own/{path.parent.name}", path.name, path.read_text(encoding="utf-8")


def write_prose(number: int) -> str:
    """Two hundred words as of a page, no two pages alike."""
    words = random.Random(number).choices(WORDS, k=200)
    return " ".join(f"{word}{'.' if place % 12 == 11 else ''}" for place, word in enumerate(words)) + "\n"


def write_repository(home: Path, name: str, folder: str) -> Path:
    """A git repository with a folder of this package, and a list of its address."""
    place = home / "repositories" / name
    shutil.copytree(SOURCES / folder, place, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", place / "LICENSE")
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all"],
    ):
        subprocess.run(["git", *command], cwd=place, check=True)
    return place


def write_pages(path: Path) -> None:
    """A WET file."""
    path.parent.mkdir(parents=True)
    records = []
    for number in range(30):
        text = write_prose(number).encode()
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: https://a{number}.example/\r\n"
        records.append(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text + b"\r\n\r\n")
    path.write_bytes(b"".join(records))


def write_posts(path: Path) -> None:
    """A dump of a Stack Exchange site."""
    path.parent.mkdir(parents=True)
    bodies = {number: f"&lt;p&gt;{write_prose(100 + number).strip()}&lt;/p&gt;" for number in range(1, 20)}
    rows = [
        f'<row Id="{number}" PostTypeId="1" Title="How {number}" Body="{body}" Score="3" '
        f'ContentLicense="CC BY-SA 4.0" />'
        for number, body in bodies.items()
    ]
    path.write_text("<posts>\n" + "\n".join(rows) + "\n</posts>\n", encoding="utf-8")


def write_outside(home: Path, system: str, tokenizer: CodeShellTokenizer) -> None:
    """Everything under `data/` that the recipes name."""
    data = home / "data"
    data.mkdir()
    (data / "opt-out.txt").write_text("# nobody\nnobody/nothing\n")
    first, second = (write_repository(home, name, name) for name in CLONED)
    for name, place in (("repositories", first), ("github", first), ("gitlab", second)):
        (data / f"{name}.txt").write_text(f"file://{place}\n")
    programs = list(read_programs())
    stack = [
        {"content": text, "lang": "python", "max_stars_repo_name": repository, "max_stars_repo_path": path,
         "max_stars_repo_licenses": ["MIT"]}
        for repository, path, text in programs
    ]  # fmt: skip
    (data / "the-stack-dedup" / "python").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(stack), data / "the-stack-dedup" / "python" / "0.parquet")
    write_starcoder(data / "starcoderdata")
    functions = [
        {"repo": repository, "path": path, "original_string": text, "code": "", "language": "python"}
        for repository, path, text in programs[::3]
    ]
    write_lines(data / "codesearchnet" / "python.jsonl.gz", functions)
    issues = [
        {"title": f"Crash {number}", "user": {"login": "a"}, "body": write_prose(200 + number), "comments": []}
        for number in range(12)
    ]
    write_lines(data / "github-issues" / "issues.jsonl", issues)
    commits = [{"content": f"Fix {n}\n\n-x\n+{text[:400]}"}
               for n, (_, _, text) in enumerate(programs[:12])]  # fmt: skip
    write_lines(data / "git-commits" / "commits.jsonl", commits)
    for name in ("stackexchange", "stackoverflow"):
        write_posts(data / name / "Posts.xml")
    for name in ("wet", "common-crawl"):
        write_pages(data / name / "pages.wet")
    for start, name in ((300, "web"), (400, "literature"), (500, "texts")):
        texts = [{"text": write_prose(start + n), "language": "web-text", "path": f"{n}"} for n in range(20)]
        write_lines(data / name / "texts.jsonl", texts)
    write_benchmarks(data)
    for name in TALKS:
        talk = [{"prompt": question, "completion": answer, "tests": test} for question, answer, test in QUESTIONS]
        write_lines(data / system / f"{name}.jsonl", talk)
    for name in PAIRS:
        pairs = [{"prompt": question, "chosen": answer, "rejected": "pass"} for question, answer, _ in QUESTIONS]
        write_lines(data / system / f"{name}.jsonl", pairs)
    tokenizer.save_pretrained(data / "starcoder")
    write_languages(data)


def write_benchmarks(data: Path) -> None:
    """Small sets in the published formats, under the names of the published files."""
    for name in ("mmlu", "gsm8k"):
        shutil.copytree(SMALL / name, data / name)
    for name in ("lines", "blocks", "mbpp"):
        shutil.copy(SMALL / f"{name}.jsonl", data / f"{name}.jsonl")
    for name, public in (("humaneval", "HumanEval"), ("humaneval-infilling", "HumanEval-SingleLineInfilling")):
        (data / f"{public}.jsonl.gz").write_bytes(gzip.compress((SMALL / f"{name}.jsonl").read_bytes()))
    (data / "multipl-e").mkdir()
    shutil.copy(SMALL / "multipl-e" / "humaneval-js.jsonl", data / "multipl-e")
    rows = [json.loads(line) for line in (SMALL / "infilling.jsonl").read_text(encoding="utf-8").splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), data / "santacoder-fim.parquet")
    for name in ("humaneval", "mbpp"):
        write_lines(data / "benchmarks" / name / "set.jsonl", [{"prompt": f"{name} asks what nobody has ever written"}])
    write_lines(
        data / "benchmarks" / "multipl_e" / "set.jsonl", [{"prompt": "a question in a language of its own here"}]
    )
    for name in ("mmlu", "gsm8k"):
        shutil.copytree(SMALL / name, data / "benchmarks" / name)


def write_languages(data: Path) -> None:
    """Texts and word lists for the tokenizer of the 7B."""
    (data / "chinese").mkdir()
    parts = [CHINESE[start::9] for start in range(9)]
    names = ("chinese-python-docs.train", "chinese-java-guide.train", "chinese-database-docs.train")
    for name, lines in zip(names, parts, strict=False):
        (data / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    write_lines(data / "english.jsonl.gz", [{"text": write_prose(600 + number)} for number in range(9)])
    for name, lines in zip(("comments", "news", "reviews", "everyday", "dictionaries"), parts[3:], strict=False):
        (data / "chinese" / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("wordfreq", "jionlp"):
        (data / "chinese" / f"words-{name}.tsv").write_text("模型\t9\n代码\t7\n数据\t5\n", encoding="utf-8")


def write_toys(home: Path, system: str) -> None:
    """Copies the systems' settings with small sizes; what the lines below do not set is as published."""
    names = (system, "codeshell-7b") if system == "codeshell-small" else (system,)
    (home / "recipes").mkdir()
    for folder in ("nano", "accelerate"):
        (home / "recipes" / folder).symlink_to(ROOT / "recipes" / folder)
    for name in names:
        for path in (ROOT / "recipes" / name).glob("*.yaml"):
            if path.stem == "launch":  # here all run in one process
                continue
            values = read_yaml(path)
            SHRINK[path.stem.partition("-")[0]](values)
            toy = home / path.relative_to(ROOT)
            toy.parent.mkdir(exist_ok=True)
            toy.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")


def shrink_curate(values: dict[str, Any]) -> None:
    """No cluster, no server, no encoder of the Hub."""
    values |= {"engine": {}, "min_language_bytes": 0, "held_out_fraction": 0.2}
    if "perplexity" in values:
        values["perplexity"] |= {"order": 2, "sample_bytes": 100_000}
    if "quality" in values:
        values["quality"] |= {"endpoint": None, "encoder": None, "sample_documents": 60, "max_tokens": 24, "epochs": 1}
        values["quality"]["min_score"] = 0.0


def shrink_tokenizer(values: dict[str, Any]) -> None:
    """The kind and its options stay."""
    values |= {"vocab_size": VOCABULARY[values["kind"]], "sample_bytes": 400_000}
    if "merged" in values:
        values["merged"] |= {"base_size": 300, "keep_first": 10}


def shrink_pack(values: dict[str, Any]) -> None:
    """Rows of 64 and 256 tokens."""
    if "repositories" in values:
        values["repositories"] |= {"row_tokens": 256}


def shrink_pretrain(values: dict[str, Any]) -> None:
    """Two steps of a model of two layers, in rows of 64 and 256 tokens."""
    lengths = sorted({phase["row_tokens"] for phase in values["schedule"]["phases"]})
    small = dict(zip(lengths, (64, 256), strict=False))
    for part in values["schedule"]["phases"]:
        part["row_tokens"] = small[part["row_tokens"]]
    for one in values.get("mixture", []):
        if "min_row_tokens" in one:
            one["min_row_tokens"] = small[one["min_row_tokens"]]
    values["schedule"] |= {"total_tokens": 1024, "warmup_tokens": 512}
    values["batch"] = {"global_tokens": 512, "micro_tokens": 256}
    values["model"]["changes"] = {
        "vocab_size": 5056, "n_embd": 32, "n_head": 4, "num_query_groups": 2, "n_layer": 2, "n_inner": 64,
    }  # fmt: skip
    values["evaluation"] |= {"max_bytes_per_language": 3000, "every_steps": 1}
    values["compiles"] = False


def shrink_trainer(values: dict[str, Any]) -> None:
    """Two steps of small batches."""
    answers = values["trainer"].get("num_generations", 2)
    values["trainer"] |= {"max_steps": 2, "gradient_accumulation_steps": 1}
    values["trainer"] |= {f"per_device_{kind}_batch_size": answers for kind in ("train", "eval")}
    if "held_out_fraction" in values:
        values["held_out_fraction"] = 0.34
    if "max_completion_length" in values["trainer"]:
        values["trainer"]["max_completion_length"] = 8
        values["max_idle_steps"] = None
    if values.get("measure"):
        values["measure"] |= {"per_prompt": 1, "max_new_tokens": 8}
    for reward in values.get("rewards", []):
        if "soft_tokens" in reward:
            reward["soft_tokens"] = 4


def shrink_synthesize(values: dict[str, Any]) -> None:
    """No server: replies that are recorded."""
    values |= {"documents": None, "server": None, "replies": ["recipes/nano/data/replies.jsonl"], "benchmarks": []}
    values["ask"]["answers"] = 0
    values["checks"] |= {"repeats": 1, "max_mutants": 4}


def shrink_preferences(values: dict[str, Any]) -> None:
    """Answers of a few tokens."""
    values["sample"] |= {"per_prompt": 2, "max_new_tokens": 4}


def shrink_evaluate(values: dict[str, Any]) -> None:
    """One problem a task; a model behind a server is read from its folder."""
    for name, model in values.get("models", {}).items():
        if isinstance(model, dict):
            values["models"][name] = model["model"]
    for task in values["tasks"].values():
        task |= {"max_problems": 1, "samples": 1, "max_new_tokens": 4}
    for name, small in (
        ("bits_per_byte", {"window_tokens": 128, "max_bytes_per_language": 3000}),
        ("infilling", {"per_language": 2, "max_prompt_tokens": 64}),
        ("memorisation", {"documents": 2, "prompt_characters": 40, "reference_characters": 20}),
    ):
        if name in values:
            values[name] |= small
    if "harness" in values:
        values["harness"]["max_items"] = 1
    if "judge" in values:
        values["judge"] |= {"url": "JUDGE", "max_new_tokens": 4}


def keep(values: dict[str, Any]) -> None:
    """Nothing to shrink."""


SHRINK = {
    "curate": shrink_curate,
    "tokenizer": shrink_tokenizer,
    "pack": shrink_pack,
    "pretrain": shrink_pretrain,
    "synthesize": shrink_synthesize,
    "sft": shrink_trainer,
    "preferences": shrink_preferences,
    "reward": shrink_trainer,
    "rlhf": shrink_trainer,
    "dpo": shrink_trainer,
    "evaluate": shrink_evaluate,
    "publish": keep,
}
