"""A BERT-style quality regressor, trained on annotated documents and run over the corpus."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, DataError
from ..manifest import share_weights
from ..precision import ComputeDtype
from .quality_scores import MAX_SCORE, OUTPUTS, SIDES, Assessment
from .settings import Quality

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

# A small encoder, which learns from some thousand documents on a CPU.
_SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 512,
}
_SMALL_VOCABULARY = 4_000
MIN_DOCUMENTS = 40
# More than ordinary text has; further characters would be encoded only to be cut off.
_TOKEN_CHARACTERS = 10
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MEASURES = "quality.json"


def fit(
    texts: Sequence[str], scores: Sequence[Assessment], folder: Path, quality: Quality, compute_dtype: ComputeDtype
) -> dict[str, float]:
    """Trains the regressor with transformers' Trainer, on the score and the sides of each document at once.

    Args:
        scores: Of each document, 0 to 5; a side that is not stated has the score.
        folder: For model, tokenizer and measures.

    Returns:
        On held-out documents: Pearson and Spearman correlation, mean squared error and variance of the score, Pearson
        correlation of each side; and both set sizes.

    Raises:
        DataError: If there are too few documents.
        CheckpointError: If the encoder cannot be loaded.
    """
    if len(texts) < MIN_DOCUMENTS:
        raise DataError(f"{len(texts)} annotated documents are too few to train on; annotate {MIN_DOCUMENTS} or more")
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, set_seed

    set_seed(quality.seed)
    order = np.random.default_rng(quality.seed).permutation(len(texts))
    held = max(8, round(len(texts) * quality.held_out_fraction))
    tokenizer, model = _make_encoder([texts[place] for place in order[held:]], quality.encoder)

    def encode(places: NDArray[np.int64]) -> list[dict[str, object]]:
        starts = [texts[place][: quality.max_tokens * _TOKEN_CHARACTERS] for place in places]
        rows = tokenizer(starts, truncation=True, max_length=quality.max_tokens)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": _fill_sides(scores[place])}
            for ids, mask, place in zip(rows["input_ids"], rows["attention_mask"], places, strict=True)
        ]

    training, testing = encode(order[held:]), encode(order[:held])
    _start_at(model, np.mean([_fill_sides(scores[place]) for place in order[held:]], axis=0))
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=quality.epochs,
        per_device_train_batch_size=quality.batch_documents,
        per_device_eval_batch_size=quality.batch_documents,
        learning_rate=quality.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=quality.seed,
        data_seed=quality.seed,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        bf16=compute_dtype == "bfloat16",
    )
    trainer = Trainer(model, arguments, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=training)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    all_predicted = np.asarray(trainer.predict(testing).predictions).reshape(len(testing), len(OUTPUTS))
    all_wanted = np.array([row["labels"] for row in testing])
    predicted, wanted = all_predicted[:, 0], all_wanted[:, 0]
    measures = {
        "pearson": _correlate(predicted, wanted),
        "spearman": _correlate(_rank(predicted), _rank(wanted)),
        "mean_squared_error": float(((predicted - wanted) ** 2).mean()),
        "variance_of_scores": float(wanted.var()),
        **{
            f"pearson_{side}": _correlate(all_predicted[:, place], all_wanted[:, place])
            for place, side in enumerate(SIDES, 1)
        },
        "held_out_documents": len(wanted),
        "training_documents": len(training),
    }
    model.save_pretrained(folder)
    tokenizer.init_kwargs.pop("is_local", None)
    tokenizer.save_pretrained(folder)
    share_weights(folder)
    (folder / MEASURES).write_text(json.dumps(measures, indent=1) + "\n", encoding="utf-8")
    return measures


def _start_at(model: "PreTrainedModel", means: NDArray[np.float64]) -> None:
    """Makes a new head predict these values: from zero, a short training would not come as far."""
    import torch

    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == len(OUTPUTS) and module.bias is not None
    ]
    with torch.no_grad():
        heads[-1].bias.copy_(torch.from_numpy(means))


def _fill_sides(assessment: Assessment) -> list[float]:
    return [float(assessment.score if value is None else value) for value in assessment]


def _make_encoder(texts: Sequence[str], encoder: str | None) -> tuple["PreTrainedTokenizerFast", "PreTrainedModel"]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, PreTrainedTokenizerFast

    if encoder is not None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(encoder)
            model = AutoModelForSequenceClassification.from_pretrained(
                encoder, num_labels=len(OUTPUTS), problem_type="regression"
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{encoder} cannot be loaded as an encoder ({reason})") from error
        return tokenizer, model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106 - a token of text
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SMALL_VOCABULARY,
        special_tokens=list(_SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    config = BertConfig(
        vocab_size=len(tokenizer), num_labels=len(OUTPUTS), problem_type="regression", pad_token_id=0, **_SMALL
    )
    return tokenizer, AutoModelForSequenceClassification.from_config(config)


def _correlate(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _rank(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks; ties have their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks[inverse]


class Regressor:
    """A trained regressor, from a folder or the Hub; longer documents are cut at `max_tokens`.

    Raises:
        CheckpointError: If it cannot be loaded.
    """

    def __init__(self, folder: str, *, max_tokens: int, precision: ComputeDtype) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            dtype = getattr(torch, precision)
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder} cannot be loaded as a quality regressor ({reason})") from error
        if model.config.num_labels not in (1, len(OUTPUTS)):
            raise CheckpointError(
                f"{folder} has {model.config.num_labels} outputs; a quality regressor has one, or {len(OUTPUTS)} with "
                "its sides"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device).eval()
        self._max_tokens = min(max_tokens, getattr(model.config, "max_position_embeddings", max_tokens))

    def score(self, texts: Sequence[str], *, batch_documents: int) -> list[Assessment]:
        """Scores documents and, if it has learned them, their sides from 0 to 5; similar lengths share a batch."""
        import torch

        starts = [text[: self._max_tokens * _TOKEN_CHARACTERS] for text in texts]
        rows = self._tokenizer(starts, truncation=True, max_length=self._max_tokens)["input_ids"]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        scores = [Assessment(0.0)] * len(rows)
        for start in range(0, len(order), batch_documents):
            places = order[start : start + batch_documents]
            batch = self._tokenizer.pad({"input_ids": [rows[place] for place in places]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**batch.to(self._device)).logits.float().clamp(0, MAX_SCORE).tolist()
            for place, values in zip(places, logits, strict=True):
                scores[place] = Assessment(*values)
        return scores


def read_encoder(name: str | None) -> "PreTrainedConfig":
    """Reads the configuration of a regressor or an encoder, from a folder or the Hub; `None` is the small encoder.

    Raises:
        CheckpointError: If it cannot be read.
    """
    from transformers import AutoConfig, BertConfig

    if name is None:
        return BertConfig(vocab_size=_SMALL_VOCABULARY, **_SMALL)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} cannot be loaded as an encoder ({reason})") from error
