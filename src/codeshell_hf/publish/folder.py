"""A folder for the Hub: weights, tokenizer and the model's code, so that it loads without this package."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import CheckpointError, RunFailed
from ..modeling_codeshell import CodeShellPreTrainedModel
from ..tokenization_codeshell import CodeShellTokenizer
from .settings import PromptSettings
from .tensors import Tensors


def save_folder(
    model: CodeShellPreTrainedModel, tokenizer: CodeShellTokenizer, folder: Path, *, max_shard_size: str = "5GB"
) -> None:
    """Saves a model and its tokenizer with their code; generation stops at the tokenizer's end of text."""
    if model.generation_config is not None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)


_PROGRAM = """
import json, sys
sys.modules["codeshell_hf"] = None  # importing it fails
folder, requests = sys.argv[1], json.loads(sys.argv[2])
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model, report = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
AutoModel.from_pretrained(folder, trust_remote_code=True)
AutoConfig.from_pretrained(folder, trust_remote_code=True)
missing = sorted(map(str, [*report["missing_keys"], *report["unexpected_keys"]]))
modules = sorted({type(thing).__module__.split(".")[0] for thing in (model, tokenizer)})
texts = []
with torch.no_grad():
    probe = model(torch.arange(16)[None] % model.config.vocab_size).logits[0, -1, :64].double().tolist()
    for request in requests:
        if request["kind"] == "chat":
            inputs = tokenizer.apply_chat_template(
                [{"role": "user", "content": request["prompt"]}],
                add_generation_prompt=True, return_tensors="pt", return_dict=True,
            )
        else:
            inputs = tokenizer(request["prompt"], return_tensors="pt")
        output = model.generate(
            **inputs, max_new_tokens=request["max_new_tokens"], do_sample=False, tokenizer=tokenizer,
            stop_strings=list(tokenizer.stop_strings),
        )
        texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
print("ANSWER" + json.dumps({"missing": missing, "modules": modules, "probe": probe, "texts": texts}))
"""
MAX_DIFFERENCE = 1e-4  # of logits


@dataclass(frozen=True)
class LoadResult:
    """What a folder does with transformers, without this package.

    Args:
        texts: One for each sample.
        probe: The result of `probe`.
        modules: Top-level modules of the classes.
        missing: Weights that are missing in the folder, or unknown to the model.
    """

    texts: list[str]
    probe: list[float]
    modules: list[str]
    missing: list[str]


def load_without_package(folder: Path, samples: Sequence[PromptSettings] = ()) -> LoadResult:
    """Loads a folder in a new process that cannot import this package, and generates the samples greedily.

    Raises:
        CheckpointError: If it does not load, or weights are missing.
    """
    requests = json.dumps([sample.model_dump() for sample in samples])
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(folder.resolve()), requests],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            cwd=cache,
            check=False,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise CheckpointError(f"{folder} does not load without this package ({reason}); publish again")
    answer = LoadResult(**json.loads(lines[-1].removeprefix("ANSWER")))
    if answer.missing:
        raise CheckpointError(f"{folder} lacks {answer.missing[0]}; publish again from a complete checkpoint")
    return answer


def verify_folder(
    model: CodeShellPreTrainedModel,
    folder: Path,
    samples: Sequence[PromptSettings] = (),
    *,
    max_difference: float = MAX_DIFFERENCE,
) -> tuple[LoadResult, float]:
    """Checks that a saved folder has the model's weights, and computes its logits without this package.

    Args:
        model: The saved model.
        folder: Output of `save_folder`.
        samples: Prompts to generate from.
        max_difference: Largest allowed difference of a logit.

    Returns:
        The folder's answer, and the largest difference of a logit.

    Raises:
        RunFailed: If weights or logits differ.
        CheckpointError: If the folder does not load.
    """
    if changed := find_changed_weights(model, folder):
        raise RunFailed(f"{changed} in {folder} differs from what was saved; check the disk")
    expected = probe(model)
    answer = load_without_package(folder, samples)
    difference = max(abs(a - b) for a, b in zip(answer.probe, expected, strict=True))
    if difference > max_difference:
        raise RunFailed(f"logits of {folder} differ from its model's by {difference:.2e}; this is a bug, please report")
    return answer, difference


def find_changed_weights(model: CodeShellPreTrainedModel, folder: Path) -> str | None:
    """The first tensor of a saved folder that differs from the model's in dtype, shape or any bit, or is missing."""
    weights = model.state_dict()
    written = Tensors(folder)
    for name in written:
        value = written.get(name)
        if name not in weights or value.dtype != weights[name].dtype or not torch.equal(value, weights[name].cpu()):
            return name
    tied = {name for group in (getattr(model, "_tied_weights_keys", None) or {}).items() for name in group}
    lacking = [name for name in weights if name not in written and name not in tied]
    return lacking[0] if lacking else None


@torch.no_grad()
def probe(model: CodeShellPreTrainedModel) -> list[float]:
    """64 logits of a fixed input, for comparing a folder with its model."""
    ids = torch.arange(16, device=model.device)[None] % model.config.vocab_size
    values: list[float] = model.eval()(ids).logits[0, -1, :64].double().tolist()
    return values
