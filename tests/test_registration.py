"""What importing the package makes transformers know."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments, pipeline

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer


def test_pipelines_support_the_model(
    tiny_model: Callable[..., CodeShellForCausalLM],
    tiny_tokenizer: CodeShellTokenizer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tiny_model(vocab_size=len(tiny_tokenizer), eos_token_id=tiny_tokenizer.eos_token_id)
    logging.getLogger("transformers").propagate = True

    generate = pipeline("text-generation", model=model, tokenizer=tiny_tokenizer)
    answer = generate("def area(", max_new_tokens=3, do_sample=False)

    assert answer[0]["generated_text"].startswith("def area(")
    assert "is not supported" not in caplog.text


def test_trainer_shifts_labels_when_it_smooths_them(
    tiny_model: Callable[..., CodeShellForCausalLM], tmp_path: Path
) -> None:
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


LAZY = """
import sys
import codeshell_hf, transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
model = "codeshell_hf.modeling_codeshell"
assert model not in sys.modules
AutoTokenizer.from_pretrained(sys.argv[1] + "/tokenizer")
assert model not in sys.modules
config = AutoConfig.from_pretrained(sys.argv[1])
assert type(AutoModelForCausalLM.from_config(config)) is codeshell_hf.CodeShellForCausalLM
for module in (transformers, sys.modules["transformers"]):
    assert module.CodeShellForCausalLM is codeshell_hf.CodeShellForCausalLM
assert codeshell_hf.CodeShellConfig.__post_init__.__qualname__ == "CodeShellConfig.__post_init__"
try:
    codeshell_hf.CodeShellForEverything
except AttributeError as error:
    assert "no attribute 'CodeShellForEverything'" in str(error)
"""


def test_models_are_imported_with_the_first_configuration(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    tiny_model(vocab_size=len(tiny_tokenizer)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")

    done = subprocess.run(
        [sys.executable, "-c", LAZY, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr


def test_a_models_own_file_may_be_the_first_import() -> None:
    program = (
        "import codeshell_hf.configuration_codeshell, transformers\n"
        "print(type(transformers.AutoConfig.for_model('codeshell')).__name__)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout == "CodeShellConfig\n", done.stderr[-2000:]
