"""The model against the answers of the original code, and against itself in every way of running it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._subclasses import FakeTensorMode
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    StaticCache,
)

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellModel, CodeShellTokenizer
from codeshell_hf.modeling_codeshell import check_flex_heads
from codeshell_hf.publish.folder import save_folder
from tests.conftest import FLEX, requires_compiler

GOLDEN = Path(__file__).parent / "data" / "golden"
CHECKPOINTS = ["plain", "rope-linear"]


def load_golden(name: str, attention: str) -> tuple[CodeShellForCausalLM, dict[str, torch.Tensor]]:
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / name, attn_implementation=attention)
    return model, load_file(GOLDEN / name / "golden.safetensors")


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize(
    ("attention", "tolerance"),
    [("eager", 1e-5), ("sdpa", 1e-4), pytest.param("flex_attention", 1e-4, marks=requires_compiler)],
)
def test_logits_equal_the_original_code_on_every_padding(name: str, attention: str, tolerance: float) -> None:
    model, golden = load_golden(name, attention)

    with torch.no_grad():
        outputs = model(golden["input_ids"], attention_mask=golden["attention_mask"], labels=golden["labels"])
        hidden = model.transformer(golden["input_ids"], attention_mask=golden["attention_mask"]).last_hidden_state

    seen = golden["attention_mask"].bool()
    assert (outputs.logits - golden["logits"])[seen].abs().max() < tolerance
    assert (hidden - golden["last_hidden_state"])[seen].abs().max() < tolerance
    assert (outputs.loss - golden["loss"][0]).abs() < 1e-5


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradients_equal_the_original_code(name: str, attention: str) -> None:
    model, golden = load_golden(name, attention)

    model(golden["input_ids"], attention_mask=golden["attention_mask"], labels=golden["labels"]).loss.backward()

    parameters = dict(model.named_parameters())
    expected = {key.removeprefix("grad."): value for key, value in golden.items() if key.startswith("grad.")}
    assert len(expected) == 3
    for key, gradient in expected.items():
        name_here = "transformer.wte.weight" if key == "lm_head.weight" else key
        assert (parameters[name_here].grad - gradient).norm() / gradient.norm() < 1e-4, key


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("attention", ["eager", "sdpa", FLEX])
def test_greedy_continuations_equal_the_original_code(name: str, attention: str) -> None:
    model, golden = load_golden(name, attention)
    new_tokens = golden["greedy"].shape[1] - golden["prompt_ids"].shape[1]

    generated = model.eval().generate(
        golden["prompt_ids"],
        attention_mask=golden["prompt_mask"],
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=None,
        # torch 2.13 cannot compile FlexAttention for one query over padded keys on a CPU, whatever the model.
        use_cache=attention != "flex_attention",
    )

    assert torch.equal(generated, golden["greedy"])


@pytest.mark.parametrize("kept", ["lm_head.weight", "transformer.wte.weight", "both"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("model_type", ["codeshell", "kclgpt"])
def test_every_released_layout_loads_exactly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: str, suffix: str, model_type: str
) -> None:
    source = GOLDEN / "plain"
    config = (source / "config.json").read_text().replace('"model_type": "codeshell"', f'"model_type": "{model_type}"')
    (tmp_path / "config.json").write_text(config)
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    embedding = weights["transformer.wte.weight"] if "transformer.wte.weight" in weights else weights["lm_head.weight"]
    weights = {key: value.clone() for key, value in weights.items() if key not in ("lm_head.weight",)}
    weights |= {"lm_head.weight": embedding.clone(), "transformer.wte.weight": embedding.clone()}
    if kept != "both":
        del weights[{"lm_head.weight": "transformer.wte.weight", "transformer.wte.weight": "lm_head.weight"}[kept]]
    assert any("rotary_emb.inv_freq" in key for key in weights)
    if suffix == "bin":
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    golden = load_file(source / "golden.safetensors")

    model, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    with torch.no_grad():
        logits = model(golden["input_ids"], attention_mask=golden["attention_mask"]).logits

    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert model.lm_head.weight is model.transformer.wte.weight
    assert (logits - golden["logits"])[golden["attention_mask"].bool()].abs().max() < 1e-5


@pytest.mark.parametrize("model_type", ["codeshell", "kclgpt"])
@pytest.mark.parametrize(
    "auto_class",
    [
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoModelForQuestionAnswering,
    ],
)
def test_every_auto_class_loads_the_backbone_and_saves_codeshell(
    tmp_path: Path, model_type: str, auto_class: Any
) -> None:
    config = (GOLDEN / "plain" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"codeshell"', f'"{model_type}"'))
    (tmp_path / "pytorch_model.bin").write_bytes((GOLDEN / "plain" / "pytorch_model.bin").read_bytes())

    model, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    model.save_pretrained(tmp_path / "saved")

    assert not [key for key in report["missing_keys"] if not key.startswith(("score.", "qa_outputs."))]
    assert '"model_type": "codeshell"' in (tmp_path / "saved" / "config.json").read_text()
    backbone = model if isinstance(model, CodeShellModel) else model.transformer
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.wte.weight, backbone.wte.weight)
    assert torch.equal(again.h[1].attn.c_attn.weight, backbone.h[1].attn.c_attn.weight)


@pytest.mark.parametrize("kept", ["lm_head.weight", "transformer.wte.weight", "both"])
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification])
def test_models_without_output_layer_find_their_embedding(tmp_path: Path, auto_class: Any, kept: str) -> None:
    weights = torch.load(GOLDEN / "plain" / "pytorch_model.bin", weights_only=True)
    embedding = weights.get("transformer.wte.weight", weights.get("lm_head.weight"))
    names = ["lm_head.weight", "transformer.wte.weight"] if kept == "both" else [kept]
    weights = {
        key: value.clone() for key, value in weights.items() if not key.endswith(("wte.weight", "lm_head.weight"))
    }
    save_file(weights | {key: embedding.clone() for key in names}, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((GOLDEN / "plain" / "config.json").read_text())

    model, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    model.save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")

    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert {key for key in report["missing_keys"] if not key.startswith("score")} == set()
    assert set(saved) == set(model.state_dict())
    assert torch.equal(auto_class.from_pretrained(tmp_path / "saved").get_input_embeddings().weight, embedding)


def test_untied_output_layer_is_not_taken_for_the_embedding(
    tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM]
) -> None:
    model = tiny_model(tie_word_embeddings=False)
    model.save_pretrained(tmp_path)

    backbone = AutoModel.from_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)

    assert torch.equal(backbone.wte.weight, model.transformer.wte.weight)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(again.lm_head.weight, again.transformer.wte.weight)


def test_residual_projections_start_smaller_as_in_gpt2(make_config: Callable[..., CodeShellConfig]) -> None:
    model = CodeShellForCausalLM(make_config(n_embd=256, n_layer=8, n_head=4, num_query_groups=4))

    for block in model.transformer.h:
        for projection in (block.attn.c_proj, block.mlp.c_proj):
            assert projection.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
        assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_swiglu_is_the_gated_product(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    mlp = tiny_model(activation_function="swiglu", n_inner=48).transformer.h[0].mlp
    x = torch.randn(2, 5, 32)

    gate = x @ mlp.c_gate.weight.T + mlp.c_gate.bias
    expected = (gate * torch.sigmoid(gate) * (x @ mlp.c_fc.weight.T + mlp.c_fc.bias)) @ mlp.c_proj.weight.T
    expected = expected + mlp.c_proj.bias

    torch.testing.assert_close(mlp(x), expected)


def test_heads_too_narrow_for_flex_attention_on_a_gpu_are_one_line(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    with FakeTensorMode():  # a GPU's tensors without their numbers, and without a GPU
        narrow, wide = (torch.empty(1, 8, width, device="cuda") for width in (32, 64))

    with pytest.raises(ValueError, match=r"heads are 8 wide \(n_embd 32, n_head 4\), .* takes 16 or more; use sdpa"):
        tiny_model("flex_attention").transformer(inputs_embeds=narrow)
    check_flex_heads(tiny_model("flex_attention", n_embd=64).config, wide.device)
    check_flex_heads(tiny_model("sdpa").config, narrow.device)


@pytest.mark.parametrize("attention", ["eager", "sdpa", FLEX])
def test_sliding_layers_see_their_window_alone(tiny_model: Callable[..., CodeShellForCausalLM], attention: str) -> None:
    model = tiny_model(attention, n_layer=1, sliding_window=4, layer_types=["sliding_attention"])
    ids = torch.randint(1, 320, (1, 12))
    changed = ids.clone()
    changed[0, 3] = (changed[0, 3] + 1) % 320

    with torch.no_grad():
        difference = (model(ids).logits - model(changed).logits).abs().amax(-1)[0]

    assert (difference[3:7] > 1e-4).all()
    assert difference[:3].max() == 0
    assert difference[7:].max() < 1e-5


def test_window_without_layer_types_interleaves() -> None:
    from codeshell_hf import CodeShellConfig

    config = CodeShellConfig(n_layer=4, sliding_window=16)

    assert config.layer_types == ["sliding_attention", "full_attention"] * 2


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 6}, {"activation_function": "swiglu"}])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_cached_decoding_equals_the_whole_row(
    tiny_model: Callable[..., CodeShellForCausalLM], attention: str, changes: dict
) -> None:
    model = tiny_model(attention, **changes)
    ids = torch.randint(1, 320, (2, 16))

    with torch.no_grad():
        whole = model(ids).logits
        first = model(ids[:, :9], use_cache=True)
        cache, pieces = first.past_key_values, [first.logits]
        for position in range(9, 16):
            step = model(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
            pieces.append(step.logits)

    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cache", ["static", "offloaded", "quantized"])
def test_other_caches_generate_what_the_dynamic_one_does(
    tiny_model: Callable[..., CodeShellForCausalLM], cache: str
) -> None:
    if cache == "quantized":
        pytest.importorskip("optimum.quanto", reason="needs optimum-quanto")
    if cache == "offloaded" and not torch.cuda.is_available():
        pytest.skip("offloading moves between a GPU and the host")
    model = tiny_model()
    ids = torch.randint(1, 320, (2, 8))
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}

    expected = model.generate(ids, **options)
    generated = model.generate(ids, cache_implementation=cache, **options)

    assert torch.equal(generated, expected)


def test_quantised_cache_class_runs_with_its_own_rounding(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    from transformers.cache_utils import QuantizedLayer

    class Rounding(QuantizedLayer):
        """Eight-bit rounding by one scale a tensor: the cache's interface without a quantisation library."""

        def _quantize(self, tensor: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
            scale = tensor.abs().amax().clamp(min=1e-6) / 127
            return (tensor / scale).round().to(torch.int8), scale

        def _dequantize(self, packed: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            values, scale = packed
            return values.float() * scale

    from transformers import Cache

    model = tiny_model()
    ids = torch.randint(1, 320, (1, 8))
    cache = Cache(layers=[Rounding(residual_length=4) for _ in range(model.config.n_layer)])

    with torch.no_grad():
        model(ids, past_key_values=cache, use_cache=True)
        step = model(ids[:, :1], past_key_values=cache, use_cache=True).logits
        exact = model(torch.cat([ids, ids[:, :1]], dim=1)).logits[:, -1:]

    assert cache.get_seq_length() == 9
    assert (step - exact).abs().max() < 0.05 * exact.abs().max()


def test_decoding_compiles_into_one_graph(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    model = tiny_model()
    ids = torch.randint(1, 320, (2, 6))
    cache = StaticCache(config=model.config, max_cache_len=16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    with torch.no_grad():
        model(ids, past_key_values=cache, position_ids=torch.arange(6)[None])
        graph = compiled(ids[:, :1], past_key_values=cache, position_ids=torch.tensor([[6]])).logits
        exact = model(torch.cat([ids, ids[:, :1]], dim=1)).logits[:, -1:]

    torch.testing.assert_close(graph, exact, atol=2e-5, rtol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    ids = torch.randint(1, 320, (2, 12))
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(ids, labels=ids).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})

    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_logits_to_keep_gives_the_last_positions(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    model = tiny_model()
    ids = torch.randint(1, 320, (2, 12))

    with torch.no_grad():
        torch.testing.assert_close(model(ids, logits_to_keep=3).logits, model(ids).logits[:, -3:])


def test_uneven_micro_batches_with_item_counts_equal_one_batch(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    ids = torch.randint(1, 320, (3, 16))
    labels = ids.clone()
    labels[0, 2:] = -100
    whole, split = tiny_model(), tiny_model()
    items = int((labels[:, 1:] != -100).sum())

    whole(ids, labels=labels).loss.backward()
    for rows in (slice(0, 1), slice(1, 3)):
        split(ids[rows], labels=labels[rows], num_items_in_batch=items).loss.backward()

    for expected, parameter in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("targets", [["c_attn"], "all-linear"])
def test_lora_trains_its_adapters_alone(
    tiny_model: Callable[..., CodeShellForCausalLM], targets: list[str] | str
) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model(), peft.LoraConfig(target_modules=targets, task_type="CAUSAL_LM"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids = torch.randint(1, 320, (2, 12))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)

    for _ in range(2):  # the second matrix starts at zero, so the first moves from the second step on
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    expected = 1 if targets == ["c_attn"] else 4
    assert len([name for name in moved if ".h.0." in name]) == 2 * expected


def count_moved_after_a_step(model: torch.nn.Module, steps: int) -> dict[str, bool]:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids = torch.randint(1, 320, (2, 12), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(steps):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters()}


def test_lora_that_names_no_modules_goes_into_the_attention(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model(), peft.LoraConfig(task_type="CAUSAL_LM"))

    moved = count_moved_after_a_step(model, steps=2)

    assert {name.split(".lora_")[0].split("transformer.")[1] for name, has in moved.items() if has} == {
        "h.0.attn.c_attn", "h.1.attn.c_attn",
    }  # fmt: skip
    assert all(has == ("lora_" in name) for name, has in moved.items())


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_prefix_tuning_trains_keys_and_values_of_every_group(
    tiny_model: Callable[..., CodeShellForCausalLM], groups: int
) -> None:
    peft = pytest.importorskip("peft")
    base = tiny_model(num_query_groups=groups)
    ids = torch.randint(1, 320, (2, 12))
    bare = base(ids).logits
    model = peft.get_peft_model(base, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))

    prefix = model.get_prompt(batch_size=2)
    moved = count_moved_after_a_step(model, steps=1)

    assert prefix.layers[0].keys.shape == (2, groups, 5, 8)
    assert {name for name, has in moved.items() if has} == {"prompt_encoder.default.embedding.weight"}
    assert (model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits - bare).abs().max() > 1e-3


@pytest.mark.parametrize("narrow", [lambda model: model.half(), lambda model: model.to(torch.bfloat16)])
@pytest.mark.parametrize("scaling", [{"rope_type": "default"}, {"rope_type": "dynamic", "factor": 2.0}])
def test_frequencies_stay_exact_in_narrow_models(
    tiny_model: Callable[..., CodeShellForCausalLM], narrow: Any, scaling: dict
) -> None:
    model = tiny_model(n_positions=8192, rope_parameters={"rope_theta": 10000.0, **scaling})
    place, x = torch.tensor([[8000]]), torch.zeros(1, 1, 32)
    angles = [8000 / 10000 ** (pair / 4) for pair in range(4)] * 2  # by hand, in Python's own numbers

    narrowed = narrow(model).transformer.rotary_emb
    cos, sin = narrowed(x, position_ids=place)
    narrow_cos, _ = narrowed(x.bfloat16(), position_ids=place)

    torch.testing.assert_close(cos[0, 0], torch.tensor(angles).cos(), atol=1e-3, rtol=0)  # the angle is a float32
    torch.testing.assert_close(sin[0, 0], torch.tensor(angles).sin(), atol=1e-3, rtol=0)
    assert (narrow_cos.float() - cos).abs().max() <= 0.004
    assert model.transformer.wte.weight.dtype in (torch.float16, torch.bfloat16)


FIRST_WORDS = """
import sys, warnings
for name in ("accelerate", "peft", "kernels", "torchao"):
    sys.modules[name] = None  # as after a default pip install
warnings.simplefilter("always")
import codeshell_hf
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
inputs = tokenizer("def area(", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=4)[0]))
model.generate(**inputs, max_new_tokens=4, stop_strings=list(tokenizer.stop_strings), tokenizer=tokenizer)
model(**inputs)
"""


def test_the_first_generation_prints_no_warning(
    tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    model = tiny_model(eos_token_id=300, bos_token_id=300, pad_token_id=300)
    save_folder(model, tiny_tokenizer, tmp_path / "model")

    done = subprocess.run(
        [sys.executable, "-c", FIRST_WORDS, str(tmp_path / "model")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.stdout.startswith("def area(")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
    ],
)
def test_scaled_positions_run_and_differ(tiny_model: Callable[..., CodeShellForCausalLM], scaling: dict) -> None:
    ids = torch.randint(1, 320, (1, 80))

    with torch.no_grad():
        plain = tiny_model()(ids).logits
        scaled = tiny_model(rope_parameters={"rope_theta": 10000.0, **scaling})(ids).logits

    assert torch.isfinite(scaled).all()
    assert (plain - scaled).abs().max() > 1e-3


def test_fresh_meta_model_has_the_plans_of_every_parallelism(make_config: Callable[..., CodeShellConfig]) -> None:
    with torch.device("meta"):
        model = CodeShellForCausalLM(make_config(activation_function="swiglu"))
    modules = {name for name, _ in model.named_modules()}

    assert model.tp_plan["lm_head"] == "colwise_gather_output"
    for pattern in model.config.base_model_tp_plan:
        assert f"transformer.{pattern.replace('*', '0')}" in modules, pattern
    for plan in (model.config.base_model_pp_plan, model.config.base_model_fsdp_plan):
        assert {name.removesuffix(".*") for name in plan} == {"wte", "h", "ln_f"}
