"""The model card and the page, filled from manifests, so that no figure is ever typed by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..errors import DataError
from ..manifest import Manifest, require_manifest

TUNING = ("sft", "preferences", "reward", "rlhf", "dpo")
SAFETY_MEASURES = {
    "harmful refused": "harmful requests that it turns down, by wording",
    "harmless answered": "harmless requests that look alike and are answered",
    "flagged": "completions in which ruff's security rules find something, of those that parse",
    "verbatim": "training files that it goes on with letter for letter",
}
STAGES = ("curate", "tokenizer", "pack", "pretrain", *TUNING, "evaluate")


def read_manifests(folders: Mapping[str, Path]) -> dict[str, Manifest]:
    """Reads the manifests of the stages that made a model.

    Args:
        folders: The output of each stage, by stage word.

    Returns:
        Manifests by stage word.

    Raises:
        DataError: If a stage has not run.
    """
    return {stage: require_manifest(folder, stage) for stage, folder in folders.items()}


def fill_template(template: str, values: Mapping[str, Any], *, source: str, is_html: bool = False) -> str:
    """Fills a template; a figure that it names and nobody measured is an error.

    Args:
        template: Jinja.
        values: What it may name.
        source: Its name, for the message.
        is_html: Whether values are escaped.

    Returns:
        The text.

    Raises:
        DataError: If it names something that is not there.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=is_html, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    try:
        return environment.from_string(template).render(**values)
    except jinja2.TemplateError as error:
        raise DataError(f"{source} cannot be filled ({error}); run the stage that measures it") from error


def describe_run(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """What card and page show of a run.

    Args:
        manifests: By stage word: curate, tokenizer, pack, pretrain, evaluate, and of the stages of alignment
            those there were.

    Returns:
        Plain values.
    """
    curate, pretrain, evaluate = manifests["curate"], manifests["pretrain"], manifests["evaluate"]
    return {
        "manifests": manifests,
        "curate": curate.counts,
        "pack": manifests["pack"].counts,
        "vocabulary": manifests["tokenizer"].counts["entries"],
        "characters_per_token": manifests["tokenizer"].measures["characters_per_token"],
        "tokenizers": manifests["tokenizer"].measures["table"],
        "pretrain": {**pretrain.counts, **pretrain.measures},
        "pretrain_settings": pretrain.settings,
        "pretrain_precision": pretrain.precision["arithmetic"],
        **{
            stage: {**manifests[stage].counts, **manifests[stage].measures} if stage in manifests else None
            for stage in TUNING
        },
        "models": {name: value for name, value in evaluate.measures.items() if isinstance(value, dict)},
        "benchmarks": evaluate.measures["table"],
        "safety_rows": [row for row in evaluate.measures["table"] if row["name"].partition(": ")[2] in SAFETY_MEASURES],
        "byte_trigram": evaluate.measures["byte_trigram_bits_per_byte"],
        "safety_measures": SAFETY_MEASURES,
        "held_out": evaluate.counts,
        "versions": evaluate.versions,
    }


def make_model_index(name: str, described: Mapping[str, Any], published: str) -> list[dict[str, Any]]:
    """The evaluation results as the Hub reads them.

    Args:
        name: The model's name.
        described: What `describe_run` gave.
        published: Which of the evaluated models is published.

    Returns:
        The card's `model-index`.
    """
    measured = described["models"][published]
    dataset = {"name": "held-out files", "type": "held-out"}
    results: Sequence[tuple[str, str, float]] = (
        ("bits_per_byte", "bits per byte", measured["bits_per_byte"]["all"]),
        ("exact_match", "single-line infilling, exact match", measured["infilling"]["all"]["exact_match"]),
    )
    return [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": dataset,
                    "metrics": [{"type": kind, "name": title, "value": value}],
                }
                for kind, title, value in results
            ],
        }
    ]
