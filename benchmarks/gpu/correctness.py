"""Compares a GPU with the original code's results, and packed documents with each document alone."""

import sysconfig
from collections.abc import Mapping
from copy import deepcopy
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file

from benchmarks.gpu.machine import find_device
from benchmarks.gpu.report import Report
from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.precision import Precision
from codeshell_hf.presets import make_config
from codeshell_hf.train.attention import VARLEN, VARLEN_FA4, has_fa4, register_attention
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.settings import ComputeSettings, Fp8Scaling, OptimizerSettings
from recipes.with_accelerate import join_ranks

GOLDEN = Path(__file__).parents[2] / "tests" / "data" / "golden"
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # of ||found - expected|| / ||expected||
LENGTHS = [100, 3, 1, 200, 208]  # tokens of the documents in a packed row


def find_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference, relative to the norm of the expected tensor."""
    found, expected = found.detach().float(), expected.detach()
    return float((found - expected).norm() / expected.norm())


def compare_goldens(report: Report) -> None:
    """Compares logits, loss, gradients and greedy decoding with the original code's."""
    device = find_device()
    for name, dtype, attention in product(("plain", "rope-linear"), LIMITS, ("eager", "sdpa")):
        if report.is_toy and (name, dtype) != ("plain", torch.float32):
            continue
        golden = {key: value.to(device) for key, value in load_file(GOLDEN / name / "golden.safetensors").items()}
        model = CodeShellForCausalLM.from_pretrained(GOLDEN / name, attn_implementation=attention, dtype=dtype)
        compare_golden(report, f"{name}, {attention}, {str(dtype)[6:]}", model.to(device).eval(), golden)
    report.skip("flex_attention", "its kernel on a GPU wants heads of width 16 or more; the goldens' are 8 wide")


def compare_golden(report: Report, name: str, model: Any, golden: Mapping[str, torch.Tensor]) -> None:
    """Compares one golden file with one attention implementation in one dtype."""
    limit, seen, loss = LIMITS[model.dtype], golden["attention_mask"].bool(), float(golden["loss"])
    answer = model(golden["input_ids"], attention_mask=golden["attention_mask"], labels=golden["labels"])
    answer.loss.backward()
    errors = {
        "logits": find_error(answer.logits[seen], golden["logits"][seen]),
        "loss": abs(float(answer.loss.detach()) - loss) / loss,
    }
    for key, value in golden.items():
        if key.startswith("grad."):
            errors[key] = find_error(model.get_parameter(key.removeprefix("grad.")).grad, value)
    report.add(f"{name}: largest error of loss, logits and gradients", max(errors.values()), limit=limit, errors=errors)
    with torch.no_grad():
        greedy = model.generate(
            golden["prompt_ids"],
            attention_mask=golden["prompt_mask"],
            max_new_tokens=golden["greedy"].shape[1] - golden["prompt_ids"].shape[1],
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    others = int((greedy != golden["greedy"]).sum())
    # In bfloat16 two almost equally likely tokens may swap; this is reported, but no error.
    more = {"limit": 1} if model.dtype == torch.float32 else {}
    report.add(f"{name}: greedy tokens that differ", others, **more)


def compare_packed(report: Report) -> None:
    """Compares logits and gradients of a packed row with those of each document alone, first eager, then compiled."""
    device = find_device()
    register_attention()
    kernels = ["sdpa", VARLEN, *(["flex_attention"] if device.type == "cuda" else [])]
    kernels += [VARLEN_FA4] if has_fa4(device) else []
    shapes: list[tuple[str, int | None]] = [("nano", None), ("codeshell-7b", None), ("codeshell-7b", 64)]
    shapes = shapes[:1] if report.is_toy else shapes
    for is_compiled in (False, True) if device.type == "cuda" else (False,):
        for (preset, window), dtype, attention in product(shapes, reversed(LIMITS), kernels):
            if "varlen" in attention and device.type == "cuda" and dtype == torch.float32:
                continue  # these kernels support only half precision
            name = f"{preset} heads, {f'window of {window}' if window else 'all seen'}, {attention}, {str(dtype)[6:]}"
            name += ", compiled" if is_compiled else ""
            try:
                logits, gradients = compare_row(preset, window, attention, dtype, is_compiled=is_compiled)
            except (RuntimeError, ValueError) as error:  # a kernel refuses these shapes; continue with the others
                report.fail(name, error)
                continue
            report.add(f"{name}: logits", logits, limit=LIMITS[dtype])
            report.add(f"{name}: gradients", gradients, limit=LIMITS[dtype])


def compare_row(
    preset: str, window: int | None, attention: str, dtype: torch.dtype, *, is_compiled: bool
) -> tuple[float, float]:
    """Relative errors of a packed row's logits and gradients; the reference is each document alone in float32 SDPA."""
    device, tokens = find_device(), sum(LENGTHS)
    more = {"sliding_window": window} if window else {}
    config = make_config(preset, n_layer=2, vocab_size=2048, n_positions=tokens, layer_types=None, **more)
    torch.manual_seed(1)
    with device:
        alone = CodeShellForCausalLM(deepcopy(config)).train()  # each writes its attention into its configuration
        packed = CodeShellForCausalLM(config)
        ids = torch.randint(0, config.vocab_size, (1, tokens))
    alone.set_attn_implementation("sdpa")
    packed.load_state_dict(alone.state_dict())
    packed.to(dtype).train().set_attn_implementation(attention)
    if is_compiled:
        for block in packed.transformer.h:
            block.compile()
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None].to(device)
    expected = torch.cat([alone(part, use_cache=False).logits for part in ids.split(LENGTHS, dim=1)], dim=1)
    found = packed(ids, position_ids=positions, use_cache=False).logits
    for logits in (expected, found):
        logits.float().square().mean().backward()
    pairs = [(one.grad, other.grad) for one, other in zip(packed.parameters(), alone.parameters(), strict=True)]
    difference = sum(float((one.float() - other).square().sum()) for one, other in pairs)
    size = sum(float(other.square().sum()) for _, other in pairs)
    return find_error(found, expected), (difference / size) ** 0.5


def compare_fp8(report: Report) -> None:
    """Trains the same small model in bfloat16 and with FP8's products, and compares first gradients and losses."""
    if not find_spec("torchao"):
        report.skip("all of it", "torchao is not installed")
        return
    preset, layers, row, rows, steps = (
        ("nano", 1, 128, 4, 20) if report.is_toy else ("codeshell-small", 4, 1024, 16, 200)
    )
    config = make_config(preset, n_layer=layers, layer_types=None, vocab_size=256, n_positions=row)
    text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")))
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    expected: Any = None
    with join_ranks() as ranks:
        for scaling in (None, *get_args(Fp8Scaling)):
            options = EngineOptions(ComputeSettings(attention="sdpa", fp8=scaling), Precision("bfloat16"))
            optimizer = OptimizerSettings(learning_rate=3e-4)
            engine = make_engine(config, optimizer, options, device=ranks.device, seed=0)
            draws, losses = torch.Generator().manual_seed(0), []
            for step in range(steps):
                starts = torch.randint(len(data) - row, (rows, 1), generator=draws)
                ids = data[starts + torch.arange(row)].to(ranks.device)
                positions = torch.arange(row, device=ranks.device).expand(rows, -1)
                with engine.autocast():
                    loss = engine.module(input_ids=ids, position_ids=positions, labels=ids) / (rows * (row - 1))
                engine.backward(loss, is_last=True)
                losses.append(float(loss.detach()))
                if step == 0:
                    matrices = [one.grad.float() for one in engine.model.transformer.h.parameters() if one.ndim > 1]
                    gradient = torch.cat([one.flatten() for one in matrices])
                engine.step(min(1.0, (step + 1) / 20), lambda norm: True)
            name = f"fp8 {scaling}" if scaling else "bfloat16"
            last = sum(losses[-10:]) / 10
            if expected is None:
                expected = gradient, last
            else:
                report.add(
                    f"{name}: error of the blocks' first gradients", find_error(gradient, expected[0]), limit=0.2
                )
                report.add(f"{name}: last losses less bfloat16's", last - expected[1], "nats", limit=0.05)
            report.add(f"{name}: mean loss of the last ten of {steps} steps", last, "nats", losses=losses)
