"""The plan of the stages after pretraining, against the peak of what small runs of them allocate."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.align.memory import (
    Adapted,
    Placement,
    Sampled,
    StageMemory,
    StageModels,
    StageTokens,
    count_adapter,
    count_cache,
    estimate_stage,
)
from codeshell_hf.align.stage_sizes import StageOptions, size_models, size_tokens
from codeshell_hf.commands.plan import main
from codeshell_hf.commands.plan_alignment import STAGES
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.text.chat import Message, encode_answer, encode_prompt
from recipes.with_trl import read_options
from tests.live_memory import LiveMemory
from tests.recipes.toy_alignment import get_stage, run, trainer, write_lines

ROOT = Path(__file__).parents[2]
WORD = "x = 1\n" * 9


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    """A model whose layers are large beside its vocabulary, and rows of much the same length."""
    home = tmp_path_factory.mktemp("memory")
    end = shared_tokenizer.eos_token_id
    ends = {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "n_positions": 128}
    config = make_config(
        "nano", vocab_size=len(shared_tokenizer), n_embd=192, n_head=4, num_query_groups=2, n_layer=6, n_inner=768,
        **ends,
    )  # fmt: skip
    wide = make_config("nano", vocab_size=8192, n_embd=64, n_head=4, n_layer=1, n_inner=64, **ends)
    for name, one in {"base": config, "wide": wide}.items():
        CodeShellForCausalLM(one).save_pretrained(home / name)
        shared_tokenizer.save_pretrained(home / name)
    texts = [f"{place:03}" for place in range(64)]
    write_lines(home / "conversations.jsonl", [{"prompt": text, "completion": WORD} for text in texts])
    write_lines(
        home / "pairs.jsonl", [{"prompt": text, "chosen": WORD, "rejected": WORD.replace("1", "2")} for text in texts]
    )
    write_lines(home / "prompts.jsonl", [{"prompt": text + WORD, "completion": "x", "tests": "x"} for text in texts])
    return home


def measure_and_plan(
    home: Path, tmp_path: Path, stage: str, more: Mapping[str, object], **options: Any
) -> tuple[float, dict[str, StageMemory]]:
    """The bytes of a run's tensors at their peak, and the planned phases, for rows as long as they are."""
    config = CodeShellConfig.from_pretrained(str(more.get("model", home / "base")))
    tokenizer = CodeShellTokenizer.from_pretrained(home / "base")
    data = {"sft": "conversations", "rlhf": "prompts"}.get(stage, "pairs")
    longest = len(encode_answer(tokenizer, [ask("003")], WORD))
    limit = {} if stage == "rlhf" else {"max_length": longest}
    settings = {
        "output": str(tmp_path / "out"),
        "model": str(home / "base"),
        data: [str(home / f"{data}.jsonl")],
        "trainer": trainer(**{"max_steps": 2, "per_device_eval_batch_size": 1, **limit, **options}),
        **more,
    }
    with LiveMemory() as memory:
        assert run(stage, settings, tmp_path) == 0
    method = getattr(get_stage(stage).settings(**settings), "method", "")
    sizes = StageOptions(
        stage,  # type: ignore[arg-type]
        method,
        read_options(stage, method, cast("Mapping[str, object]", settings["trainer"])),
        longest_prompt=len(encode_prompt(tokenizer, [ask("003" + WORD)])),
    )
    placement = Placement(is_bf16=False, recomputes=sizes.recomputes())
    return memory.peak, estimate_stage(size_models(config, sizes), placement, size_tokens(config, sizes, 1))


def ask(text: str) -> Message:
    return {"role": "user", "content": text}


def find_peak(phases: Mapping[str, StageMemory]) -> tuple[str, float]:
    phase = max(phases, key=lambda name: phases[name].total)
    return phase, phases[phase].total


@pytest.mark.parametrize("recomputes", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("batch", [4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_training_allocates_what_was_planned(
    home: Path, tmp_path: Path, stage: str, batch: int, *, recomputes: bool
) -> None:
    """At four rows mostly weights, at sixteen mostly activations, and the tiles of logits but for rewards."""
    measured, phases = measure_and_plan(
        home, tmp_path, stage, {}, per_device_train_batch_size=batch, activation_checkpointing=recomputes,
        gradient_accumulation_steps=2,
    )  # fmt: skip

    phase_at_peak, planned = find_peak(phases)
    assert phase_at_peak == "training"
    assert planned == pytest.approx(measured, rel=0.08)


LENGTH = {"rewards": [{"kind": "length", "soft_tokens": 4}], "max_idle_steps": None}


@pytest.mark.parametrize(("batch", "steps", "phase"), [(16, 2, "training"), (2, 32, "generating")])
def test_reinforcement_learning_allocates_what_was_planned(
    home: Path, tmp_path: Path, batch: int, steps: int, phase: str
) -> None:
    """All answers of a step are sampled together, and trained on a batch at a time."""
    measured, phases = measure_and_plan(
        home, tmp_path, "rlhf", LENGTH, num_generations=4, max_completion_length=32, beta=0.1,
        per_device_train_batch_size=batch, gradient_accumulation_steps=steps, per_device_eval_batch_size=4,
    )  # fmt: skip

    phase_at_peak, planned = find_peak(phases)
    assert phase_at_peak == phase
    assert planned == pytest.approx(measured, rel=0.08)


def test_held_out_rows_have_all_their_logits(home: Path, tmp_path: Path) -> None:
    measured, phases = measure_and_plan(
        home, tmp_path, "sft", {"held_out_fraction": 0.5, "model": str(home / "wide")},
        per_device_train_batch_size=1, per_device_eval_batch_size=32,
    )  # fmt: skip

    phase_at_peak, planned = find_peak(phases)
    assert phase_at_peak == "measuring"
    assert planned == pytest.approx(measured, rel=0.08)


def test_an_adapters_numbers_are_those_that_peft_makes(home: Path) -> None:
    for layers in ("all-linear", ["c_attn"], ["c_attn", "c_proj"]):
        model = CodeShellForCausalLM.from_pretrained(home / "base")
        peft = get_peft_model(model, LoraConfig(r=3, target_modules=layers, task_type="CAUSAL_LM"))
        trained = sum(weight.numel() for weight in peft.parameters() if weight.requires_grad)

        assert count_adapter(model.config, 3, layers) == trained


def test_the_cache_is_what_transformers_keeps(home: Path) -> None:
    """Two rows of a prompt of 30 and an answer of 10 tokens, and a layer's copy as the last token is added."""
    model = CodeShellForCausalLM.from_pretrained(home / "base").eval()
    with torch.no_grad():
        cache = model(torch.ones(2, 40, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)

    planned = count_cache(model.config, Placement(is_bf16=False), Sampled(2, 2, 30, 10))

    assert planned == kept + kept / len(cache.layers)


WIDE = make_config("nano", vocab_size=1000, n_embd=96, n_head=6, n_layer=3, n_inner=384)
N = count_parameters(WIDE)
ADAPTED = replace(StageModels(WIDE), adapter=Adapted(5000))


@pytest.mark.parametrize(
    ("placement", "models", "policy", "gradients", "moments", "reference"),
    [
        # float32 and autocast's copy; DDP's buckets are a second copy of the gradients
        (Placement("ddp"), StageModels(WIDE, has_reference=True), 6 * N, 4 * N, 8 * N, 6 * N),
        (Placement("ddp", ranks=4), StageModels(WIDE), 6 * N, 8 * N, 8 * N, 0),
        (Placement("ddp", is_bf16=False), StageModels(WIDE, has_reference=True), 4 * N, 4 * N, 8 * N, 4 * N),
        (Placement("fsdp2", ranks=8, shards=8), StageModels(WIDE, has_reference=True), N / 2, N / 2, N, N / 2),
        # bfloat16 and float32; the gradients in both as they are stepped
        (Placement("zero", 3, 8, 8), StageModels(WIDE, has_reference=True), 6 * N / 8, 6 * N / 8, N, 2 * N / 8),
        (Placement("zero", 2, 8, 8), StageModels(WIDE, has_reference=True), 2 * N + N / 2, 6 * N / 8, N, 2 * N),
        # frozen weights in float32, of which a block's are cast; of the adapter all
        (Placement("ddp"), ADAPTED, 4 * N + 2 * N / 3 + 6 * 5000, 4 * 5000, 8 * 5000, 0),
        (Placement("fsdp2", ranks=8, shards=8), ADAPTED, N / 2 + 5000 / 2, 5000 / 2, 5000, 0),
    ],
)
def test_what_each_way_of_sharding_keeps(
    placement: Placement, models: StageModels, policy: float, gradients: float, moments: float, reference: float
) -> None:
    training = estimate_stage(models, placement, StageTokens(trained=64))["training"]

    assert (training.policy, training.gradients, training.moments) == pytest.approx((policy, gradients, moments))
    assert training.reference == pytest.approx(reference)


@pytest.mark.parametrize("kind", ["fsdp2", "zero"])
def test_the_ends_and_two_blocks_are_gathered_to_train_and_with_a_reference_again(
    kind: Literal["fsdp2", "zero"],
) -> None:
    big = make_config("instruct-65b-fsdp")
    block = (8192 + 1) * 3 * 8192 + (8192 + 1) * 8192 + 3 * 8192 * 22_016 + 2 * 22_016 + 8192 + 4 * 8192
    ends = 128_000 * 8192
    tokens = StageTokens(trained=4096, compared=4096)

    alone, compared = (
        estimate_stage(StageModels(big, has_reference=given), Placement(kind, 3, 256, 256), tokens)["training"].gathered
        for given in (False, True)
    )

    # In bfloat16; and the gradients of the larger of both in float32.
    gathered = 2 * (ends + 2 * block)
    assert alone == pytest.approx(gathered + 4 * max(ends, block), rel=0.001)
    assert compared - alone == pytest.approx(gathered, rel=0.001)


def test_weights_in_four_bits_are_smaller_and_only_the_blocks_are() -> None:
    matrices = 3 * (96 * (96 + 2 * 32) + 96 * 96 + 2 * 96 * 384)  # two groups of heads of 16
    models = replace(StageModels(WIDE), adapter=Adapted(5000, is_4bit=True))

    training = estimate_stage(models, Placement("ddp"), StageTokens(trained=64))["training"]

    a_block = 2 * matrices / 3  # dequantised
    assert training.policy == pytest.approx(matrices * 4.127 / 8 + (N - matrices) * 2 + a_block + 6 * 5000)


def test_zero_3_gathers_the_policy_to_generate_unless_told_not_to() -> None:
    tokens = StageTokens(trained=64, rollout=Sampled(4, 4, 32, 32))
    big = make_config("instruct-65b-fsdp")

    whole, blocks = (
        estimate_stage(StageModels(big), Placement("zero", 3, 128, 128, gathers=gathers), tokens)["generating"]
        for gathers in (True, False)
    )

    assert whole.gathered == 2 * count_parameters(big)
    assert blocks.gathered < 6e9


RECIPES = sorted(path.relative_to(ROOT) for stage in STAGES for path in (ROOT / "recipes").glob(f"*/{stage}*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_committed_recipe_fits_the_cards_of_its_source(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A100 of 80 GB, as many as launch.yaml says; rows and answers as long as the recipe lets them be."""
    assert main([str(ROOT / recipe), "gpu=a100-80g"]) == 0

    printed = capsys.readouterr().out
    *_, totals = (line.split() for line in printed.splitlines() if line.startswith("  all"))
    assert 0 < max(map(float, totals[1:])) < 79.0


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("codeshell-7b/rlhf", ["measure.batch_size=128"], "when measuring, .*cache: .*lower measure.batch_size"),
        ("codeshell-7b/rlhf", ["max_prompt_tokens=null"], "when generating, .*cache: .*lower max_prompt_tokens"),
        ("general-65b-zero3/rlhf", ["trainer.ds3_gather_for_generation=true"], "gathered: 131.*false"),
        ("codeshell-7b/sft", ["trainer.activation_checkpointing=false"], None),
        ("codeshell-7b/sft", ["gpus=1"], "policy|moments"),
        ("codeshell-7b/sft", ["trainer.per_device_train_batch_size=many"], "is 'many'; set it to a whole number"),
        ("codeshell-7b/dpo", ["gpus=8", "accelerate=recipes/accelerate/ddp.yaml"], "take more GPUs with"),
        ("codeshell-7b/sft", ["accelerate=recipes/accelerate/mesh.yaml"], "which is pretraining's"),
        ("codeshell-7b/sft", ["trainer.lerning_rate=1"], "unknown key 'lerning_rate'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_setting_that_mends_it(
    recipe: str, overrides: list[str], message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([f"{ROOT}/recipes/{recipe}.yaml", *overrides])

    printed = capsys.readouterr().err
    assert code == (0 if message is None else 2)
    if message is not None:
        assert re.search(message, printed), printed


def test_a_models_own_architecture_goes_before_that_of_the_system(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "sft.yaml"
    recipe.write_text(yaml.safe_dump({"output": "out", "model": str(home / "base"), "conversations": ["x.jsonl"]}))
    numbers = count_parameters(CodeShellConfig.from_pretrained(home / "base"))

    assert main([str(recipe)]) == 0
    assert f"sft of {numbers:,} parameters by DDP on 1 x a100-80g" in capsys.readouterr().out

    assert main([str(recipe), "model=elsewhere"]) == 2
    assert "elsewhere has no config.json" in capsys.readouterr().err
