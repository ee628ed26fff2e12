"""QLoRA: memory of the 4-bit weights, speed of training, and whether the loss falls."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig

from benchmarks.gpu.machine import find_device, time_call
from benchmarks.gpu.report import Report
from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.presets import make_config

TARGETS = ["c_attn", "c_proj", "c_fc"]


def train_adapters(report: Report) -> None:
    """Trains 12 layers of the 7B in NF4 with adapters of rank 16 on every matrix, two rows of 2,048 tokens a step."""
    device = find_device()
    changes = {"n_layer": 12, "n_positions": 2048}
    if report.is_toy:
        changes = {"n_layer": 2, "n_positions": 64, "n_embd": 64, "n_head": 4, "n_inner": 128, "vocab_size": 512}
    config = make_config("nano" if report.is_toy else "codeshell-7b", layer_types=None, **changes)
    torch.manual_seed(0)
    with TemporaryDirectory() as home:
        with device:  # initialised there: three billion random numbers take a CPU most of a minute
            model = CodeShellForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(Path(home, "model"))
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        bits = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )  # fmt: skip
        quantized = CodeShellForCausalLM.from_pretrained(
            Path(home, "model"), quantization_config=bits, dtype=torch.bfloat16, device_map={"": device}
        )
        report.add("loading into four bits", time.perf_counter() - started, "s")
    if device.type == "cuda":
        report.add("weights in four bits", torch.cuda.memory_allocated() / 1e9, "GB")
    adapted = get_peft_model(
        prepare_model_for_kbit_training(quantized),
        LoraConfig(r=16, target_modules=TARGETS, task_type="CAUSAL_LM"),
    )
    optimizer = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=2e-4)
    ids = torch.randint(0, config.vocab_size, (2, config.n_positions), device=device)
    losses = []

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = adapted(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))

    seconds = time_call(step, repeats=5, warmup=2)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    report.add("steps over the adapters", ids.numel() / seconds, "tokens/s", peak_gb=memory, losses=losses)
    report.add("loss of the last step less that of the first", losses[-1] - losses[0], limit=0.0)
