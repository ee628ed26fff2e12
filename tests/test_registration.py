"""What importing the package makes transformers know."""

import logging
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments, pipeline

from codeshell_hf import CodeShellTokenizer


def test_pipelines_support_the_model(tiny_model, tiny_tokenizer: CodeShellTokenizer, caplog) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer), eos_token_id=tiny_tokenizer.eos_token_id)
    logging.getLogger("transformers").propagate = True

    generate = pipeline("text-generation", model=model, tokenizer=tiny_tokenizer)
    answer = generate("def area(", max_new_tokens=3, do_sample=False)

    assert answer[0]["generated_text"].startswith("def area(")
    assert "is not supported" not in caplog.text


def test_trainer_shifts_labels_when_it_smooths_them(tiny_model, tmp_path: Path) -> None:
    model = tiny_model()
    arguments = TrainingArguments(
        output_dir=str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, bf16=False, report_to="none"
    )
    trainer = Trainer(model=model, args=arguments)
    ids = torch.randint(1, 320, (2, 12))

    with torch.no_grad():
        loss = trainer.compute_loss(model, {"input_ids": ids, "labels": ids.clone()})
        logits = model(ids).logits[:, :-1].float()

    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], label_smoothing=0.1)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
