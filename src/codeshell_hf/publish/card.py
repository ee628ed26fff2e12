"""The model card, filled from manifests, so that no number is typed by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from ..configuration_codeshell import CodeShellConfig
from ..errors import DataError
from ..manifest import Manifest, Values, require_manifest
from ..presets import count_parameters
from ..tokenization_codeshell import END_OF_TURN
from .settings import CardSettings, PromptSettings, PushSettings

TUNING = ("sft", "preferences", "reward", "rlhf", "dpo")
NOT_MEASURED = {"measured": None, "against_copies": None}  # of a stage whose settings leave it out
SAFETY_MEASURES = {
    "harmful refused": "harmful requests that are refused, judged by phrases",
    "harmless answered": "similar harmless requests that are answered",
    "flagged": "completions with findings of ruff's security rules, among those that parse",
    "verbatim": "training files that are continued verbatim",
}
OWN_DATA = "own"  # of `model-index`, in place of a data set's name on the Hub
TEMPLATE = Path(__file__).parent / "model_card.md.jinja"


def read_manifests(folders: Mapping[str, Path]) -> dict[str, Manifest]:
    """Reads the manifests of the stages that made a model; a `DataError` if a stage has not run."""
    return {stage: require_manifest(folder, stage) for stage, folder in folders.items()}


def fill_template(template: str, values: Mapping[str, object], *, source: str, is_html: bool = False) -> str:
    """Fills a Jinja template; `source` names it in errors, and `is_html` escapes values.

    Raises:
        DataError: If it names a figure that no stage measured.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=is_html, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    try:
        return environment.from_string(template).render(**values)
    except jinja2.TemplateError as error:
        raise DataError(f"{source} cannot be filled ({error}); run the stage that measures it") from error


def write_card(folder: Path, values: Mapping[str, object]) -> None:
    """Writes the model card, `README.md`.

    Raises:
        DataError: If it names a figure that no stage measured.
    """
    card = fill_template(TEMPLATE.read_text(encoding="utf-8"), values, source=TEMPLATE.name)
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_tokenizer_card(folder: Path, repository: str, card: CardSettings, *, entries: int) -> None:
    """Writes the card of a tokenizer that is pushed to a `repository` of its own."""
    (folder / "README.md").write_text(
        f"---\nlicense: {card.license}\nlibrary_name: transformers\n---\n\n# {card.name}: its tokenizer\n\n"
        f"{entries:,} entries, byte-level BPE after splitting digits, with fill-in-the-middle and the CodeShell chat "
        "format.\n\n```python\nfrom transformers import AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{repository}", trust_remote_code=True)\n```\n',
        encoding="utf-8",
    )


def describe_model(
    manifests: Mapping[str, Manifest],
    config: CodeShellConfig,
    card: CardSettings,
    push: PushSettings | None,
    samples: Sequence[tuple[PromptSettings, str]],
) -> Values:
    """The values of a model's card and page: `describe_run`, the card's settings, and each sample with its text."""
    described = describe_run(manifests)
    return {
        **described,
        "name": card.name,
        "license": card.license,
        "published": card.published,
        "repository": push.repository if push else card.name,
        "parameters": count_parameters(config),
        "config": config.to_dict(),
        "model_index": make_model_index(card.name, described, card.published),
        "samples": [{**sample.model_dump(), "text": text.removesuffix(END_OF_TURN)} for sample, text in samples],
        "safety": None,
    }


def describe_run(manifests: Mapping[str, Manifest]) -> Values:
    """The values of a run's card and page, from the manifests of curate to evaluate and of alignment, if it ran."""
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
        "pretrain_precision": pretrain.precision["compute_dtype"],
        **{
            stage: {**NOT_MEASURED, **manifests[stage].counts, **manifests[stage].measures}
            if stage in manifests
            else None
            for stage in TUNING
        },
        "models": {name: value for name, value in evaluate.measures.items() if isinstance(value, dict)},
        "benchmarks": evaluate.measures["table"],
        "reported": any(row["published"] is not None for row in evaluate.measures["table"]),
        "contamination": evaluate.measures.get("contamination", []),
        "safety_rows": [row for row in evaluate.measures["table"] if row["name"].partition(": ")[2] in SAFETY_MEASURES],
        "byte_trigram": evaluate.measures["byte_trigram_bits_per_byte"],
        "safety_measures": SAFETY_MEASURES,
        "held_out": evaluate.counts,
        "versions": evaluate.versions,
    }


def make_model_index(name: str, described: Values, published: str) -> list[Values]:
    """The evaluation results of the `published` model in the Hub's format, the card's `model-index`."""
    measured = described["models"][published]
    dataset = {"name": "held-out files", "type": "held-out"}
    results: Sequence[tuple[str, str, float]] = (
        ("bits_per_byte", "bits per byte", measured["bits_per_byte"]["all"]),
        ("exact_match", "single-line infilling, exact match", measured["infilling"]["all"]["exact_match"]),
    )
    held_out = [
        {
            "task": {"type": "text-generation"},
            "dataset": dataset,
            "metrics": [{"type": kind, "name": title, "value": value}],
        }
        for kind, title, value in results
    ]
    return [{"name": name, "results": [*held_out, *list_benchmark_results(described["benchmarks"], published)]}]


def list_benchmark_results(rows: Sequence[Values], published: str) -> list[Values]:
    """The rows of the table of benchmarks as entries of `model-index`; data of our own have a type of their own."""
    entries = []
    for row in rows:
        title, _, measure = row["name"].partition(": ")
        if (cell := row["models"].get(published)) is None:
            continue
        entries.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": title, "type": row.get("dataset") or OWN_DATA},
                "metrics": [{"type": measure.replace(" ", "_"), "name": measure, "value": cell["value"]}],
            }
        )
    return entries
