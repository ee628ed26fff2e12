"""Makes a folder for the Hub, loads it as a stranger would, fills card and page from the manifests, and may push it.

python -m recipes.publish recipes/nano/publish.yaml
python -m recipes.publish recipes/nano/publish.yaml push.repository=you/codeshell-nano
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.stages.stage import Stage, StageSettings, Work, main

ROOT = Path(__file__).parents[1]

TRIO = ("configuration_codeshell.py", "modeling_codeshell.py", "tokenization_codeshell.py")
MADE = ("README.md", "index.html", "generation_config.json", *TRIO)


class CardSettings(Section):
    """What no manifest knows."""

    name: str = Field(description="the model's name")
    license: str = Field(default="apache-2.0", description="licence of the weights, as the Hub names it")
    published: str = Field(description="which of the evaluated models this is")


class SampleSettings(Section):
    """Something to let the published model write."""

    kind: Literal["completion", "chat"] = Field(description="whether the chat format is put around it")
    prompt: str = Field(description="what it continues or answers")
    max_new_tokens: int = Field(default=48, gt=0, description="longest answer")


class PushSettings(Section):
    """Where to push."""

    repository: str = Field(description="owner/name of the model on the Hub")
    dataset: str | None = Field(default=None, description="owner/name for the curated documents; null keeps them here")
    tokenizer: str | None = Field(default=None, description="owner/name for the tokenizer alone; null does not push it")
    private: bool = Field(default=True, description="whether only you see what is new")
    revision: str | None = Field(default=None, description="branch, made where it is not there; null is the main one")
    pull_request: bool = Field(default=False, description="whether a pull request is opened in place of a commit")
    message: str = Field(default="Publish with codeshell-hf", description="the commit's subject")


class Settings(StageSettings):
    """Settings of publishing."""

    model: Path = Field(description="folder of the model, with its tokenizer")
    stages: dict[str, Path] = Field(description="outputs of the stages that made it, by stage word")
    card: CardSettings = Field(description="the card")
    samples: tuple[SampleSettings, ...] = Field(default=(), description="what to let it write")
    push: PushSettings | None = Field(default=None, description="null keeps it here")


def run(settings: Settings, work: Work) -> None:
    """Publishes the model.

    Args:
        settings: What to publish and where.
        work: Where to write.

    Raises:
        RunFailed: If what was written answers differently from the model.
        DataError: If something must not leave the machine, or the Hub refuses.
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import RunFailed
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.publish.card import describe_run, fill_template, make_model_index, read_manifests
    from codeshell_hf.publish.folder import find_other_weights, load_as_a_stranger, probe, save_folder
    from codeshell_hf.publish.page import make_page
    from codeshell_hf.tokenization_codeshell import END_OF_TURN
    from codeshell_hf.train.weights import load_model

    manifests = read_manifests(settings.stages)
    described = describe_run(manifests)
    model = load_model(str(settings.model), dtype=torch.float32)
    expected = probe(model)
    folder = work.folder / "model"
    save_folder(model, CodeShellTokenizer.from_pretrained(settings.model), folder)

    if other := find_other_weights(model, folder):
        raise RunFailed(f"{other} in {folder} is not what {settings.model} holds; is the disk sound?")
    answer = load_as_a_stranger(folder, [sample.model_dump() for sample in settings.samples])
    difference = max(abs(a - b) for a, b in zip(answer["probe"], expected, strict=True))
    if difference > 1e-4:
        raise RunFailed(f"{folder} differs from {settings.model} by {difference:.2e} in its logits; publish again")

    values = {
        **described,
        "name": settings.card.name,
        "license": settings.card.license,
        "published": settings.card.published,
        "repository": settings.push.repository if settings.push else settings.card.name,
        "parameters": count_parameters(model.config),
        "config": model.config.to_dict(),
        "model_index": make_model_index(settings.card.name, described, settings.card.published),
        "samples": [
            {**sample.model_dump(), "text": text.removesuffix(END_OF_TURN)}
            for sample, text in zip(settings.samples, answer["texts"], strict=True)
        ],
        "safety": None,
    }
    for place in (folder / "manifests", work.folder / "manifests"):
        place.mkdir(exist_ok=True)
        for stage, path in settings.stages.items():
            shutil.copyfile(path / "manifest.json", place / f"{stage}.json")
    card = fill_template((ROOT / "model_card.md").read_text(encoding="utf-8"), values, source="model_card.md")
    (folder / "README.md").write_text(card, encoding="utf-8")
    page = make_page(values, settings.stages)
    for place in (folder, work.folder):
        (place / "index.html").write_text(page, encoding="utf-8")
    folders = {"model": folder, **make_others(settings, values, work)}
    places = list_places(manifests)
    hide_places(work.folder, places)
    for each in folders.values():
        refuse_to_leave(each, places, settings)

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    work.counts |= {"files": len(files), "bytes": size}
    work.measures = {"largest_logit_difference": difference, "texts": answer["texts"]}
    work.report = [
        f"{len(files)} files, {size / 1e6:.1f} MB; loads without this package, logits within {difference:.1e}",
        "no secret and no path of this machine in any file; the card is complete, the tokenizer gives back every text",
    ]
    for sample, text in zip(settings.samples, answer["texts"], strict=True):
        work.report += [f"{sample.kind}: {sample.prompt}", *(f"  | {line}" for line in text.splitlines()[:8])]
    work.report.append(f"page: {settings.output / 'index.html'}")
    if settings.push:
        work.report += push(settings.push, folders)


def make_others(settings: Settings, values: dict[str, Any], work: Work) -> dict[str, Path]:
    """Makes the folders that are pushed besides the model's, if any are asked for.

    Args:
        settings: With `push`.
        values: What cards are filled from.
        work: Where to write, and to count.

    Returns:
        Folders by the setting that names their repository.
    """
    from codeshell_hf import CodeShellTokenizer

    folders = {}
    if settings.push and settings.push.tokenizer:
        folders["tokenizer"] = folder = work.folder / "tokenizer"
        CodeShellTokenizer.from_pretrained(settings.model).save_pretrained(folder)
        (folder / "README.md").write_text(
            f"---\nlicense: {settings.card.license}\nlibrary_name: transformers\n---\n\n# {settings.card.name}: its "
            f"tokenizer\n\n{values['vocabulary']:,} entries, byte-level BPE behind single digits, with "
            "fill-in-the-middle and the CodeShell chat format.\n\n```python\nfrom transformers import AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{settings.push.tokenizer}", trust_remote_code=True)\n```\n',
            encoding="utf-8",
        )
    if settings.push and settings.push.dataset:
        from tqdm import tqdm

        from codeshell_hf.publish.dataset import make_dataset_folder

        folders["dataset"] = folder = work.folder / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        sources = values["manifests"]["curate"].settings["sources"]
        with tqdm(desc="dataset", unit="part") as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            counts = make_dataset_folder(
                settings.stages["curate"],
                folder,
                (ROOT / "data_card.md").read_text(encoding="utf-8"),
                {
                    **values["curate"],
                    "name": settings.card.name,
                    "license": "other",
                    "repository": settings.push.dataset,
                    "sources": [source["name"] for source in sources],
                },
                on_progress=show,
            )
        (folder / "manifests").mkdir(exist_ok=True)
        shutil.copyfile(settings.stages["curate"] / "manifest.json", folder / "manifests" / "curate.json")
        work.counts["dataset"] = counts
    return folders


def list_places(manifests: dict[str, Any]) -> dict[str, str]:
    """The paths that nobody else needs to know, and what stands for them.

    Args:
        manifests: Of the stages; what they read may lie anywhere.

    Returns:
        Substitutes by path, longest paths first.
    """
    import sysconfig

    from codeshell_hf.manifest import flatten

    places = {str(ROOT): ".", str(Path.home()): "~"}
    for manifest in manifests.values():
        for value in flatten(manifest.settings).values():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                path = item.get("path") if isinstance(item, dict) else item
                if isinstance(path, str) and path.startswith("/") and len(Path(path).parts) > 2:
                    places[path] = f".../{Path(path).name}"
    places |= {path: f"${{{name}}}" for name, path in sysconfig.get_paths().items()}
    return {place: places[place] for place in sorted(places, key=len, reverse=True) if len(place) > 1}


def hide_places(folder: Path, places: dict[str, str]) -> None:
    """Takes this machine's paths out of what is published.

    Args:
        folder: All that is published.
        places: Substitutes by path.
    """
    # Not tokenizer.json: "/home" may well be a token.
    for path in [*folder.rglob("manifests/*.json"), *folder.rglob("*.md"), *folder.rglob("*.html")]:
        text = path.read_text(encoding="utf-8")
        hidden = text
        for place, substitute in places.items():
            hidden = hidden.replace(place, substitute)
        if hidden != text:
            path.write_text(hidden, encoding="utf-8")


def refuse_to_leave(folder: Path, places: dict[str, str], settings: Settings) -> None:
    """Looks at everything that would leave this machine.

    Args:
        folder: What would be pushed.
        places: Paths that must not be in it.
        settings: Where held-out documents are.

    Raises:
        DataError: If there is a secret or a path, the card lacks something, or the tokenizer loses text.
    """
    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import DataError
    from codeshell_hf.publish.checks import check_card, check_files, check_tokenizer
    from codeshell_hf.text.documents import read_documents

    problems = check_files(folder, places)
    if folder.name == "model":
        problems += check_card((folder / "README.md").read_text(encoding="utf-8"))
    if (folder / "tokenizer.json").exists():
        rows = read_documents(settings.stages["curate"], split="held-out", columns=["id", "text"])
        texts = {row["id"]: row["text"] for row, _ in zip(rows, range(64), strict=False)}
        problems += check_tokenizer(CodeShellTokenizer.from_pretrained(folder), texts)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{folder.name}/{problems[0]}{more}; nothing was pushed, mend it and run again")


def push(settings: PushSettings, folders: dict[str, Path]) -> list[str]:
    """Pushes each folder, all files of it in one commit; the model last, so that what it names is there.

    Args:
        settings: Where to.
        folders: By the setting that names their repository.

    Returns:
        Lines with the address of each commit or pull request.

    Raises:
        DataError: If the Hub refuses.
    """
    from codeshell_hf.publish.hub import Destination, push_folder

    lines = []
    for kind in ("dataset", "tokenizer", "model"):
        if kind not in folders:
            continue
        destination = Destination(
            settings.repository if kind == "model" else getattr(settings, kind),
            kind="dataset" if kind == "dataset" else "model",
            **settings.model_dump(include={"private", "revision", "pull_request", "message"}),
        )
        lines.append(f"{kind} pushed to {push_folder(folders[kind], destination)}")
    return lines


def describe(settings: Settings) -> list[str]:
    """Lists the files that would be pushed; what is made on the way has no size yet.

    Args:
        settings: What to publish.

    Returns:
        A tree.
    """
    kept = {path.name: path.stat().st_size for path in settings.model.glob("*") if path.is_file()}
    sizes: dict[str, int | None] = {
        **{name: size for name, size in kept.items() if name not in ("training_args.bin", *MADE)},
        **dict.fromkeys(MADE),
        **{f"manifests/{stage}.json": None for stage in settings.stages},
    }
    lines = [f"{settings.push.repository if settings.push else settings.output / 'model'}/"]
    lines += [f"  {name:<42}{'made' if size is None else f'{size:,}'}" for name, size in sorted(sizes.items())]
    if settings.push:
        where = f"branch {settings.push.revision}" if settings.push.revision else "the main branch"
        kind = "a pull request on" if settings.push.pull_request else "one commit on"
        lines.append(f"{kind} {where}, {'private' if settings.push.private else 'public'} where it is new")
        if settings.push.tokenizer:
            lines.append(f"{settings.push.tokenizer}/  the tokenizer alone")
        if settings.push.dataset:
            parts = list((settings.stages["curate"] / "documents").glob("part-*.parquet"))
            size = sum(part.stat().st_size for part in parts)
            lines.append(f"{settings.push.dataset}/  data set, {len(parts)} parts, {size:,} bytes or less")
    return lines


STAGE = Stage(
    name="publish",
    settings=Settings,
    inputs=lambda settings: {"model": settings.model, **settings.stages},
    run=run,
    describe=describe,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
