"""Writes a folder for the Hub with card and page, checks that it loads without this package, and may push it.

codeshell publish recipes/nano/publish.yaml
codeshell publish recipes/nano/publish.yaml push.repository=you/codeshell-nano
"""

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from codeshell_hf.manifest import Values
from codeshell_hf.publish.settings import CardSettings, PromptSettings, PushSettings
from codeshell_hf.settings import InputModel, InputPath
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

ROOT = Path(__file__).parents[1]
CODE = ("configuration_codeshell.py", "modeling_codeshell.py", "tokenization_codeshell.py")
WRITTEN = ("README.md", "index.html", "generation_config.json", *CODE)
CHECKED_TEXTS = 64  # held-out documents that the tokenizer must decode unchanged


class Settings(StageSettings):
    """Settings of publishing."""

    model: InputModel = Field(description="folder of the model, with its tokenizer")
    stages: dict[str, InputPath] = Field(description="outputs of the stages that made it, by name")
    card: CardSettings = Field(description="the card")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="of the published weights")
    samples: tuple[PromptSettings, ...] = Field(default=(), description="prompts for the published model")
    push: PushSettings | None = Field(default=None, description="null does not push")

    @model_validator(mode="after")
    def _has_documents_to_push(self) -> Self:
        if self.push is not None and self.push.dataset and "curate" not in self.stages:
            raise ValueError("push.dataset is set, but stages has no curate; name its output, or set dataset: null")
        return self


def run(settings: Settings, work: Work) -> None:
    """Publishes the model.

    Raises:
        RunFailed: If the written folder computes other logits than the model.
        DataError: If a check fails, or the Hub refuses.
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.loading import load_model
    from codeshell_hf.publish.card import describe_model, read_manifests, write_card
    from codeshell_hf.publish.folder import save_folder, verify_folder
    from codeshell_hf.publish.hub import push_folders
    from codeshell_hf.publish.page import make_page
    from codeshell_hf.publish.private_paths import hide_paths, list_private_paths
    from codeshell_hf.publish.push_checks import check_folder

    manifests = read_manifests(settings.stages)
    model = load_model(str(settings.model), dtype=getattr(torch, settings.dtype))
    folder = work.folder / "model"
    save_folder(model, CodeShellTokenizer.from_pretrained(settings.model), folder)
    answer, difference = verify_folder(model, folder, settings.samples)

    samples = list(zip(settings.samples, answer.texts, strict=True))
    values = describe_model(manifests, model.config, settings.card, settings.push, samples, model=settings.model)
    write_card(folder, values)
    page = make_page(values, settings.stages)
    for place in (folder, work.folder):
        (place / "index.html").write_text(page, encoding="utf-8")
        copy_manifests(settings.stages, place / "manifests")
    folders = {"model": folder}
    if settings.push and settings.push.tokenizer:
        folders["tokenizer"] = work.folder / "tokenizer"
        save_tokenizer(folders["tokenizer"], settings.model, settings.push.tokenizer, settings.card, values)
    if settings.push and settings.push.dataset:
        folders["dataset"] = work.folder / "dataset"
        work.counts["dataset"] = save_dataset(
            folders["dataset"], settings.stages["curate"], settings.push.dataset, settings.card, values
        )

    # A secret or a path of this machine stops the stage before a push.
    private = list_private_paths(manifests, {ROOT: ".", Path.cwd(): ".", Path.home(): "~"})
    hide_paths(work.folder, private)
    texts = read_held_out(settings.stages["curate"]) if "curate" in settings.stages else {}
    for each in folders.values():
        check_folder(each, private, texts)

    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    work.counts |= {"files": len(files), "bytes": size}
    work.measures = {"largest_logit_difference": difference, "texts": answer.texts}
    work.report = [
        f"{len(files)} files, {size / 1e6:.1f} MB; loads without this package, logits within {difference:.1e}",
        "no secret and no path of this machine in any file; the card is complete, the tokenizer is lossless",
    ]
    for sample, text in samples:
        work.report += [f"{sample.kind}: {sample.prompt}", *(f"  | {line}" for line in text.splitlines()[:8])]
    work.report.append(f"page: {settings.output / 'index.html'}")
    if settings.push:
        work.report += push_folders(folders, settings.push)


def copy_manifests(stages: Mapping[str, Path], folder: Path) -> None:
    """Copies the manifests of stages, named after the stages."""
    folder.mkdir(exist_ok=True)
    for stage, output in stages.items():
        shutil.copyfile(output / "manifest.json", folder / f"{stage}.json")


def save_tokenizer(folder: Path, model: Path, repository: str, card: CardSettings, values: Values) -> None:
    """Saves the tokenizer by itself, with a card."""
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.publish.card import write_tokenizer_card

    CodeShellTokenizer.from_pretrained(model).save_pretrained(folder)
    write_tokenizer_card(folder, repository, card, entries=values["vocabulary"])


def save_dataset(folder: Path, curated: Path, repository: str, card: CardSettings, values: Values) -> dict[str, int]:
    """Saves the curated documents as a data set, with a card; returns documents by split, and `left_out`."""
    from tqdm import tqdm

    from codeshell_hf.publish.dataset import make_dataset_folder

    shutil.rmtree(folder, ignore_errors=True)
    sources = [source["name"] for source in values["manifests"]["curate"].settings["sources"]]
    described = {"name": card.name, "license": "other", "repository": repository, "sources": sources}
    with tqdm(desc="dataset", unit="part") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        counts = make_dataset_folder(curated, folder, {**values["curate"], **described}, on_progress=show)
    copy_manifests({"curate": curated}, folder / "manifests")
    return counts


def read_held_out(curated: Path) -> dict[str, str]:
    """Some held-out documents, by id."""
    from codeshell_hf.text.documents import read_documents

    rows = read_documents(curated, split="held-out", columns=["id", "text"])
    return {row["id"]: row["text"] for row, _ in zip(rows, range(CHECKED_TEXTS), strict=False)}


def describe(settings: Settings) -> list[str]:
    """The files that would be pushed; those that the stage writes have no size yet."""
    there = {path.name: path.stat().st_size for path in settings.model.glob("*") if path.is_file()}
    sizes: dict[str, int | None] = {
        **{name: size for name, size in there.items() if name not in ("training_args.bin", *WRITTEN)},
        **dict.fromkeys(WRITTEN),
        **{f"manifests/{stage}.json": None for stage in settings.stages},
    }
    lines = [f"{settings.push.repository if settings.push else settings.output / 'model'}/"]
    lines += [f"  {name:<42}{'made' if size is None else f'{size:,}'}" for name, size in sorted(sizes.items())]
    return lines + (describe_push(settings.push, list_documents(settings.stages)) if settings.push else [])


def list_documents(stages: Mapping[str, Path]) -> list[Path]:
    """The files of curated documents; none if `curate` is not among the stages."""
    return list((stages["curate"] / "documents").glob("part-*.parquet")) if "curate" in stages else []


def describe_push(push: PushSettings, documents: Iterable[Path]) -> list[str]:
    """How and where it would be pushed."""
    where = f"branch {push.revision}" if push.revision else "the main branch"
    kind = "a pull request on" if push.pull_request else "one commit on"
    lines = [f"{kind} {where}, {'private' if push.private else 'public'} if new"]
    if push.tokenizer:
        lines.append(f"{push.tokenizer}/  the tokenizer by itself")
    if push.dataset:
        sizes = [part.stat().st_size for part in documents]
        lines.append(f"{push.dataset}/  data set, {len(sizes)} parts, {sum(sizes):,} bytes or less")
    return lines


STAGE = Stage(
    name="publish",
    settings=Settings,
    run=run,
    describe=describe,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
