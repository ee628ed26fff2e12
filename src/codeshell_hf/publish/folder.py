"""A folder for the Hub: weights, tokenizer, and the trio, so that it loads where this package is not installed."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..modeling_codeshell import CodeShellPreTrainedModel
from ..tokenization_codeshell import CodeShellTokenizer
from .tensors import Tensors


def save_folder(
    model: CodeShellPreTrainedModel, tokenizer: CodeShellTokenizer, folder: Path, *, max_shard_size: str = "5GB"
) -> None:
    """Saves a model and its tokenizer, with their code, agreeing on how an answer ends.

    Args:
        model: Any CodeShell model.
        tokenizer: Its tokenizer.
        folder: Where to; made if needed.
        max_shard_size: Largest file of weights, as in transformers.
    """
    if model.generation_config is not None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)


_STRANGER = """
import json, sys
sys.modules["codeshell_hf"] = None  # a stranger does not have this package
folder, requests = sys.argv[1], json.loads(sys.argv[2])
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model, report = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
AutoModel.from_pretrained(folder, trust_remote_code=True)
AutoConfig.from_pretrained(folder, trust_remote_code=True)
lacking = sorted(map(str, [*report["missing_keys"], *report["unexpected_keys"]]))
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
print("ANSWER" + json.dumps({"lacking": lacking, "modules": modules, "probe": probe, "texts": texts}))
"""


def load_as_a_stranger(folder: Path, requests: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Loads a folder in a fresh process in which this package cannot be imported, and lets it write.

    Args:
        folder: What `save_folder` wrote.
        requests: Each with `kind` ("completion" or "chat"), `prompt` and `max_new_tokens`.

    Returns:
        `texts`, one for each request; `probe`, 64 logits of a fixed input; `modules` that the classes come from.

    Raises:
        CheckpointError: If it does not load, or weights are missing.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", _STRANGER, str(folder.resolve()), json.dumps(list(requests))],
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
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix("ANSWER"))
    if answer["lacking"]:
        raise CheckpointError(f"{folder} loads without {answer['lacking'][0]}; publish again from a whole checkpoint")
    return answer


def find_other_weights(model: CodeShellPreTrainedModel, folder: Path) -> str | None:
    """Compares what was written with what is in memory, tensor by tensor.

    Args:
        model: The model that was saved.
        folder: What `save_folder` wrote.

    Returns:
        The name of the first tensor that differs in dtype, shape or any bit, or is not there; `None` if none does.
    """
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
    """The logits by which a published folder is compared with its model.

    Args:
        model: A causal language model.

    Returns:
        64 numbers.
    """
    ids = torch.arange(16, device=model.device)[None] % model.config.vocab_size
    values: list[float] = model.eval()(ids).logits[0, -1, :64].double().tolist()
    return values
