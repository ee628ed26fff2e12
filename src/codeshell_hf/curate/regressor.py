"""A BERT-style regressor of quality: trained on annotated documents, then run over the corpus."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, DataError
from ..manifest import share_weights
from ..precision import Arithmetic
from .annotation import MAX_SCORE

# What an encoder from scratch is made of: enough to learn from some thousand documents on a CPU.
_SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 512,
}
_SMALL_VOCABULARY = 4_000
MIN_DOCUMENTS = 40
# No tokenizer makes longer tokens of ordinary text; what lies beyond would be encoded to be cut off.
_TOKEN_CHARACTERS = 10
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MEASURES = "quality.json"


@dataclass(frozen=True)
class Fitting:
    """How the regressor is trained.

    Args:
        encoder: A checkpoint with an encoder, by folder or name on the Hub; `None` for a small one from scratch.
        max_tokens: Documents are cut to so many.
        epochs: Passes over the annotated documents.
        batch_documents: Documents a step.
        learning_rate: At its highest.
        held_out_fraction: Share of the annotated documents that correlations are measured on.
        seed: Of the weights and the order.
        precision: What is computed in, in training and in scoring.
    """

    encoder: str | None
    max_tokens: int
    epochs: float
    batch_documents: int
    learning_rate: float
    held_out_fraction: float
    seed: int
    precision: Arithmetic


def fit(texts: Sequence[str], scores: Sequence[float], folder: Path, options: Fitting) -> dict[str, float]:
    """Trains the regressor with transformers' Trainer.

    Args:
        texts: Documents.
        scores: Of each, 0 to 5.
        folder: For model, tokenizer and measures.
        options: How.

    Returns:
        On documents held out: Pearson's and Spearman's correlation, mean squared error, how many they are.

    Raises:
        DataError: If there are too few documents.
        CheckpointError: If the encoder cannot be loaded.
    """
    if len(texts) < MIN_DOCUMENTS:
        raise DataError(f"{len(texts)} annotated documents are too few to learn from; annotate {MIN_DOCUMENTS} or more")
    import torch
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments, set_seed

    set_seed(options.seed)
    order = np.random.default_rng(options.seed).permutation(len(texts))
    held = max(8, round(len(texts) * options.held_out_fraction))
    tokenizer, model = _make_encoder([texts[place] for place in order[held:]], options)

    def encode(places: NDArray[np.int64]) -> list[dict[str, Any]]:
        starts = [texts[place][: options.max_tokens * _TOKEN_CHARACTERS] for place in places]
        found = tokenizer(starts, truncation=True, max_length=options.max_tokens)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": float(scores[place])}
            for ids, mask, place in zip(found["input_ids"], found["attention_mask"], places, strict=True)
        ]

    training, testing = encode(order[held:]), encode(order[:held])
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_documents,
        per_device_eval_batch_size=options.batch_documents,
        learning_rate=options.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        seed=options.seed,
        data_seed=options.seed,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        bf16=options.precision == "bfloat16",
    )
    trainer = Trainer(model, arguments, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=training)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    predicted = np.asarray(trainer.predict(testing).predictions).reshape(-1)
    wanted = np.array([row["labels"] for row in testing])
    measures = {
        "pearson": _correlate(predicted, wanted),
        "spearman": _correlate(_rank(predicted), _rank(wanted)),
        "mean_squared_error": float(((predicted - wanted) ** 2).mean()),
        "variance_of_scores": float(wanted.var()),
        "held_out_documents": len(wanted),
        "training_documents": len(training),
    }
    model.save_pretrained(folder)
    tokenizer.init_kwargs.pop("is_local", None)
    tokenizer.save_pretrained(folder)
    share_weights(folder)
    (folder / MEASURES).write_text(json.dumps(measures, indent=1) + "\n", encoding="utf-8")
    return measures


def _make_encoder(texts: Sequence[str], options: Fitting) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, PreTrainedTokenizerFast

    if options.encoder is not None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(options.encoder)
            model = AutoModelForSequenceClassification.from_pretrained(
                options.encoder, num_labels=1, problem_type="regression"
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{options.encoder} is no encoder that can be loaded ({reason})") from error
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
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, problem_type="regression", pad_token_id=0, **_SMALL)
    return tokenizer, AutoModelForSequenceClassification.from_config(config)


def _correlate(first: NDArray[Any], second: NDArray[Any]) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _rank(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks, the mean of them where values are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


class Regressor:
    """A trained regressor.

    Args:
        folder: Its model and tokenizer, or a name on the Hub.
        max_tokens: Documents are cut to so many.
        precision: What its weights are in, and what it computes in.

    Raises:
        CheckpointError: If it cannot be loaded.
    """

    def __init__(self, folder: str, *, max_tokens: int, precision: Arithmetic) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            dtype = getattr(torch, precision)
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder} is no regressor of quality that can be loaded ({reason})") from error
        if model.config.num_labels != 1:
            raise CheckpointError(f"{folder} gives {model.config.num_labels} values; a regressor of quality gives one")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device).eval()
        self._max_tokens = min(max_tokens, getattr(model.config, "max_position_embeddings", max_tokens))

    def score(self, texts: Sequence[str], *, batch_documents: int) -> list[float]:
        """Scores documents, those of like length together.

        Args:
            texts: Documents.
            batch_documents: How many at once.

        Returns:
            Scores from 0 to 5, in their order.
        """
        import torch

        starts = [text[: self._max_tokens * _TOKEN_CHARACTERS] for text in texts]
        found = self._tokenizer(starts, truncation=True, max_length=self._max_tokens)["input_ids"]
        order = sorted(range(len(found)), key=lambda place: len(found[place]))
        scores = [0.0] * len(found)
        for start in range(0, len(order), batch_documents):
            places = order[start : start + batch_documents]
            batch = self._tokenizer.pad({"input_ids": [found[place] for place in places]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**batch.to(self._device)).logits[:, 0].float().clamp(0, MAX_SCORE).tolist()
            for place, value in zip(places, logits, strict=True):
                scores[place] = value
        return scores


def read_encoder(name: str | None) -> Any:
    """Reads the configuration of a regressor or an encoder.

    Args:
        name: Its folder, or a name on the Hub; `None` for the small one from scratch.

    Returns:
        transformers' configuration.

    Raises:
        CheckpointError: If there is none.
    """
    from transformers import AutoConfig, BertConfig

    if name is None:
        return BertConfig(vocab_size=_SMALL_VOCABULARY, **_SMALL)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} is no encoder that can be loaded ({reason})") from error
