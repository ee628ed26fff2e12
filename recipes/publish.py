"""Makes a folder for the Hub, loads it as a stranger would, fills card and page from the manifests, and may push it.

python -m recipes.publish recipes/nano/publish.yaml
python -m recipes.publish recipes/nano/publish.yaml push.repository=you/codeshell-nano
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from recipes.stage import ROOT, Section, Stage, StageSettings, Work, main


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

    repository: str = Field(description="owner/name on the Hub")
    private: bool = Field(default=True, description="whether only you see it")


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
    """
    import torch

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.errors import RunFailed
    from codeshell_hf.presets import count_parameters
    from codeshell_hf.publish.card import describe_run, fill_template, make_model_index, read_manifests
    from codeshell_hf.publish.folder import load_as_a_stranger, probe, save_folder
    from codeshell_hf.tokenization_codeshell import END_OF_TURN
    from codeshell_hf.train.weights import load_model

    manifests = read_manifests(settings.stages)
    described = describe_run(manifests)
    model = load_model(str(settings.model), dtype=torch.float32)
    expected = probe(model)
    folder = work.folder / "model"
    save_folder(model, CodeShellTokenizer.from_pretrained(settings.model), folder)

    answer = load_as_a_stranger(folder, [sample.model_dump() for sample in settings.samples])
    difference = max(abs(a - b) for a, b in zip(answer["probe"], expected, strict=True))
    if difference > 1e-4:
        raise RunFailed(f"{folder} differs from {settings.model} by {difference:.2e} in its logits; publish again")

    for stage, path in settings.stages.items():
        (folder / "manifests").mkdir(exist_ok=True)
        shutil.copyfile(path / "manifest.json", folder / "manifests" / f"{stage}.json")
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
    card = fill_template((ROOT / "model_card.md").read_text(encoding="utf-8"), values, source="model_card.md")
    (folder / "README.md").write_text(card, encoding="utf-8")
    page = make_page(settings, values)
    (work.folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "index.html").write_text(page, encoding="utf-8")
    hide_places(folder)

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    work.counts = {"files": len(files), "bytes": size}
    work.measures = {"largest_logit_difference": difference, "texts": answer["texts"]}
    work.report = [
        f"{len(files)} files, {size / 1e6:.1f} MB; loads without this package, logits within {difference:.1e}"
    ]
    for sample, text in zip(settings.samples, answer["texts"], strict=True):
        work.report += [f"{sample.kind}: {sample.prompt}", *(f"  | {line}" for line in text.splitlines()[:8])]
    work.report.append(f"page: {settings.output / 'index.html'}")
    if settings.push:
        work.report.append(f"pushed to {push(settings.push, folder)}")


def make_page(settings: Settings, values: dict[str, Any]) -> str:
    """Makes the page.

    Args:
        settings: Where the stages' outputs are.
        values: What the card shows too.

    Returns:
        One self-contained HTML file.
    """
    from codeshell_hf.publish.card import fill_template, read_page_template
    from codeshell_hf.publish.figures import (
        draw_calibration,
        draw_loss,
        draw_rewards,
        draw_sizes,
        draw_tuning,
        to_svg,
    )

    stages = settings.stages
    log = [json.loads(line) for line in (stages["pretrain"] / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    results = read_json(stages["evaluate"] / "results.json")
    figures = {"loss": to_svg(draw_loss(log)), "sizes": to_svg(draw_sizes(values["curate"]["languages"]))}
    if "sft" in stages:
        figures["tuning"] = to_svg(draw_tuning(read_json(stages["sft"] / "log.json")))
    if "reward" in stages:
        figures["calibration"] = to_svg(draw_calibration(values["reward"]["calibration"]))
    if "rlhf" in stages:
        names = [reward["kind"] for reward in values["manifests"]["rlhf"].settings["rewards"]]
        figures["rewards"] = to_svg(draw_rewards(read_json(stages["rlhf"] / "log.json"), names))
    published = settings.card.published
    languages = [name for name in values["models"][published]["bits_per_byte"] if name != "all"]
    shown = {**values, "figures": figures, "languages": languages}
    shown["infilled"] = results["models"][published]["samples"]
    return fill_template(read_page_template(), shown, source="the page", is_html=True)


def read_json(path: Path) -> Any:
    """Reads a file that a stage wrote.

    Args:
        path: The file.

    Returns:
        Plain values.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def hide_places(folder: Path) -> None:
    """Takes this machine's paths out of what is published.

    Args:
        folder: The published folder.
    """
    import sysconfig

    places = {str(ROOT): ".", **{path: f"${{{name}}}" for name, path in sysconfig.get_paths().items()}}
    for path in [*folder.rglob("*.json"), *folder.rglob("*.md"), *folder.rglob("*.html")]:
        text = path.read_text(encoding="utf-8")
        hidden = text
        for place in sorted(places, key=len, reverse=True):
            hidden = hidden.replace(place, places[place])
        if hidden != text:
            path.write_text(hidden, encoding="utf-8")


def push(settings: PushSettings, folder: Path) -> str:
    """Pushes a folder, all files in one commit.

    Args:
        settings: Where to.
        folder: What.

    Returns:
        The address of the commit.

    Raises:
        DataError: If the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from codeshell_hf.errors import DataError

    api = HfApi()
    try:
        api.create_repo(settings.repository, private=settings.private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=settings.repository, folder_path=folder, commit_message="Publish with codeshell-hf"
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"push.repository {settings.repository} refuses ({reason}); log in with `hf auth login`"
        ) from error
    return str(commit.commit_url)


STAGE = Stage(
    name="publish",
    settings=Settings,
    inputs=lambda settings: {"model": settings.model, **settings.stages},
    run=run,
    code=(
        "model_card.md",
        "src/codeshell_hf/publish",
        "src/codeshell_hf/configuration_codeshell.py",
        "src/codeshell_hf/modeling_codeshell.py",
        "src/codeshell_hf/tokenization_codeshell.py",
    ),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
