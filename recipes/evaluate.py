"""Evaluates models on held-out files: bits per byte beside a byte-trigram model, and fill-in-the-middle."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from recipes.stage import Section, Stage, StageSettings, Work, main


class BitsPerByteSettings(Section):
    """How well text is predicted."""

    max_bytes_per_language: int = Field(default=100_000, gt=0, description="how much of a language is read")
    window_tokens: int = Field(gt=1, description="longest input")


class InfillingSettings(Section):
    """Whether single lines are filled in exactly."""

    per_language: int = Field(default=50, gt=0, description="tasks of a language at most")
    max_prompt_tokens: int = Field(gt=8, description="longer prompts are cut on both sides")
    batch_size: int = Field(default=16, gt=0, description="prompts at a time")


class Settings(StageSettings):
    """Settings of evaluation."""

    models: dict[str, Path] = Field(description="folders by name", min_length=1)
    documents: Path = Field(description="output of curate")
    shards: Path = Field(description="output of pack, with a held-out split")
    bits_per_byte: BitsPerByteSettings = Field(description="bits per byte")
    infilling: InfillingSettings = Field(description="fill-in-the-middle")
    seed: int = Field(default=0, ge=0, description="decides the lines to fill in")


def run(settings: Settings, work: Work) -> None:
    """Runs every task on every model.

    Args:
        settings: What to run on what.
        work: Where to write.
    """
    from codeshell_hf.evaluate.infilling import PROFILE, make_tasks

    held_out = read_held_out(settings)
    tasks = make_tasks(held_out["rows"], per_language=settings.infilling.per_language, seed=settings.seed)
    results: dict[str, Any] = {
        "baselines": {"byte_trigram": score_trigram(settings, held_out)},
        "held_out": {"documents": len(held_out["chosen"]), "bytes": held_out["bytes"], "infilling_tasks": len(tasks)},
        "profiles": {"infilling": PROFILE},
        "models": {},
    }
    for name, path in settings.models.items():
        results["models"][name] = evaluate_model(name, path, settings, held_out, tasks)
        work.measures[name] = {key: value for key, value in results["models"][name].items() if key != "samples"}
    (work.folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    work.counts = results["held_out"]
    work.measures["byte_trigram_bits_per_byte"] = results["baselines"]["byte_trigram"]
    work.report = format_results(results)


def read_held_out(settings: Settings) -> dict[str, Any]:
    """Reads the held-out documents: as ids for bits per byte, as text for the rest.

    Args:
        settings: Where they are and how many.

    Returns:
        `shards`, `chosen` indices into them, `bytes`, and all `rows` of text.
    """
    from codeshell_hf.curate.documents import read_documents
    from codeshell_hf.evaluate.bits_per_byte import take_evenly
    from codeshell_hf.pack.shards import TokenShards

    shards = TokenShards(settings.shards / "held-out")
    chosen = take_evenly(
        shards.languages,
        shards.bytes.tolist(),
        max_bytes_per_language=settings.bits_per_byte.max_bytes_per_language,
    )
    rows = list(read_documents(settings.documents, split="held-out", columns=["id", "language", "text"]))
    return {"shards": shards, "chosen": chosen, "bytes": int(shards.bytes[chosen].sum()), "rows": rows}


def score_trigram(settings: Settings, held_out: dict[str, Any]) -> float:
    """Trains a byte-trigram model on the training split and scores the documents that the models are scored on.

    Args:
        settings: Where the documents are.
        held_out: What to score.

    Returns:
        Bits per byte.
    """
    from codeshell_hf.curate.documents import read_documents
    from codeshell_hf.evaluate.byte_trigram import ByteTrigram

    model = ByteTrigram().train(
        row["text"].encode("utf-8") for row in read_documents(settings.documents, split="train", columns=["text"])
    )
    chosen = {held_out["shards"].ids[index] for index in held_out["chosen"]}
    return round(model.score(row["text"].encode("utf-8") for row in held_out["rows"] if row["id"] in chosen), 4)


def evaluate_model(
    name: str, path: Path, settings: Settings, held_out: dict[str, Any], tasks: list[Any]
) -> dict[str, Any]:
    """Evaluates one model.

    Args:
        name: What it is called.
        path: Its folder.
        settings: How.
        held_out: The documents.
        tasks: Lines to fill in.

    Returns:
        Bits per byte and exact matches by language, and samples.
    """
    import torch
    from tqdm import tqdm

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.evaluate.bits_per_byte import score_documents
    from codeshell_hf.evaluate.infilling import run_tasks, score_results
    from codeshell_hf.train.weights import load_model

    tokenizer = CodeShellTokenizer.from_pretrained(path)
    model = load_model(str(path), dtype=torch.float32).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    shards = held_out["shards"]
    documents = [(shards.languages[index], shards[index], int(shards.bytes[index])) for index in held_out["chosen"]]
    scores = score_documents(
        model, documents, window_tokens=settings.bits_per_byte.window_tokens, vocab_size=shards.header.vocab_size
    )
    with tqdm(total=len(tasks), desc=f"infilling {name}", unit="task") as bar:
        results = run_tasks(
            model,
            tokenizer,
            tasks,
            max_prompt_tokens=settings.infilling.max_prompt_tokens,
            batch_size=settings.infilling.batch_size,
            on_progress=bar.update,
        )
    samples = sorted(results, key=lambda result: (not result.is_exact, result.task.id))[:6]
    return {
        "bits_per_byte": {key: round(score.bits_per_byte, 4) for key, score in scores.items()},
        "bits_per_byte_interval": {key: [round(end, 4) for end in score.interval] for key, score in scores.items()},
        "infilling": score_results(results),
        "samples": [result.sample() for result in samples],
    }


def format_results(results: dict[str, Any]) -> list[str]:
    """The table at the end.

    Args:
        results: Of all models.

    Returns:
        Lines.
    """
    trigram = results["baselines"]["byte_trigram"]
    lines = [
        f"{'model':<14}{'bits/byte':>10}{'95 % interval':>18}{'infilling':>14}",
        f"{'byte trigram':<14}{trigram:>10.3f}",
    ]
    for name, result in results["models"].items():
        infilling = result["infilling"]["all"]
        matches = f"{infilling['exact']} of {infilling['tasks']}"
        low, high = result["bits_per_byte_interval"]["all"]
        interval = f"[{low:.3f}, {high:.3f}]"
        lines.append(f"{name:<14}{result['bits_per_byte']['all']:>10.3f}{interval:>18}{matches:>14}")
    return lines


STAGE = Stage(
    name="evaluate",
    settings=Settings,
    inputs=lambda settings: {"documents": settings.documents, "shards": settings.shards, **settings.models},
    run=run,
    code=("src/codeshell_hf/evaluate", "src/codeshell_hf/modeling_codeshell.py"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
