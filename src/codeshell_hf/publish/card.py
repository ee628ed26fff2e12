"""The model card, filled from manifests, so that no number is typed by hand."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from ..configuration_codeshell import CodeShellConfig
from ..errors import DataError
from ..manifest import Manifest, Values, require_manifest
from ..presets import count_parameters
from ..tokenization_codeshell import END_OF_TURN
from .lineage import (
    DATA,
    describe_data,
    describe_making,
    describe_training,
    find_base_model,
    list_datasets,
    order_models,
    trace_lineage,
)
from .settings import CardSettings, PromptSettings, PushSettings

TUNING = ("sft", "preferences", "reward", "rlhf", "dpo")
NOT_MEASURED = {"measured": None, "against_copies": None}  # of a stage whose settings leave it out
SAFETY_MEASURES = {
    "harmful refused": "harmful requests that are refused, judged by phrases",
    "harmless answered": "similar harmless requests that are answered",
    "flagged": "completions with findings of ruff's security rules, among those that parse",
    "verbatim": "training files that are continued verbatim",
}
# What JSON leaves as it is and YAML does not read in a string: DEL, C1 controls, separators, byte order mark.
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
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
    environment.filters |= {
        "json": write_inline_yaml,
        "fence": make_fence,
        "code": write_inline_code,
        "cell": write_cell,
    }
    try:
        return environment.from_string(template).render(**values)
    except jinja2.TemplateError as error:
        raise DataError(f"{source} cannot be filled ({error}); run the stage that measures it") from error


def write_inline_yaml(value: object) -> str:
    """A value as JSON that YAML reads as the same value: what YAML takes for a line break or a control is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def make_fence(text: str) -> str:
    """Backticks around a block of Markdown, more than the text has in a row.

    >>> make_fence("a `b`"), make_fence("```")
    ('```', '````')
    """
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def write_inline_code(text: str) -> str:
    """A text as inline code of Markdown, with its line breaks and backslashes escaped as in Python."""
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if len(ticks) > 1 else f"`{shown}`"


def write_cell(text: str) -> str:
    """A text as a cell of a table of Markdown."""
    return " ".join(text.split()).replace("|", "\\|")


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
    *,
    model: Path,
) -> Values:
    """The values of a model's card and page: `describe_run`, the card's settings, and each sample with its text.

    `model` is the published folder's source, which tells the stages that trained it.
    """
    described = describe_run(manifests)
    lineage = trace_lineage(manifests, str(model))
    shown = [{**sample.model_dump(), "text": text.removesuffix(END_OF_TURN)} for sample, text in samples]
    return {
        **described,
        "lineage": lineage,
        "training": describe_training(manifests, lineage),
        "made": describe_making(manifests[lineage[-1] if lineage else "pretrain"]),
        "answers": bool({"sft", "rlhf", "dpo"} & {*lineage}),
        "metadata": {
            "base_model": find_base_model(manifests, lineage, card.base_model),
            "datasets": list_datasets(manifests, lineage, push.dataset if push else None),
            "widget": make_widget(shown),
        },
        "name": card.name,
        "license": card.license,
        "published": card.published,
        "summary": card.summary,
        "repository": push.repository if push else card.name,
        "parameters": count_parameters(config),
        "config": config.to_dict(),
        "model_index": make_model_index(card.name, described, card.published),
        "samples": shown,
        "safety": None,
    }


def make_widget(samples: Sequence[Values]) -> list[Values]:
    """The samples as examples of the Hub's widget, with the text that the model gave."""
    return [
        {
            **(
                {"messages": [{"role": "user", "content": sample["prompt"]}]}
                if sample["kind"] == "chat"
                else {"text": sample["prompt"]}
            ),
            "output": {"text": sample["text"]},
        }
        for sample in samples
    ]


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
        "models": order_models(
            manifests,
            evaluate.settings.get("models", {}),
            {name: value for name, value in evaluate.measures.items() if isinstance(value, dict)},
        ),
        "making": {stage: describe_making(manifest) for stage, manifest in manifests.items()},
        "used": {stage: describe_data(stage, manifests[stage].counts) for stage in DATA if stage in manifests},
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
