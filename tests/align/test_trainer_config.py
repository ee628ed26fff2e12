"""A trainer's options and its launcher."""

import pytest

from codeshell_hf.align.trainer_config import (
    agree_on_precision,
    check_environment,
    check_keys,
    check_launch,
    check_processes,
    is_fsdp,
)
from codeshell_hf.errors import SettingsError


def test_unknown_and_owned_keys_are_refused() -> None:
    check_keys({"beta": 0.1}, ["beta", "seed"], ["seed"])
    with pytest.raises(SettingsError, match="unknown key 'betta' in the section trainer; did you mean 'beta'"):
        check_keys({"betta": 0.1}, ["beta", "seed"], ["seed"])
    with pytest.raises(SettingsError, match=r"trainer\.seed is decided by the recipe"):
        check_keys({"seed": 0.1}, ["beta", "seed"], ["seed"])


@pytest.mark.parametrize(
    ("precision", "options", "launched", "expected"),
    [
        ("auto", {}, "no", "auto"),
        ("float32", {}, "no", "float32"),
        ("auto", {"bf16": True}, "no", "bfloat16"),
        ("auto", {"bf16": False}, "no", "float32"),
        ("auto", {"fp16": True, "bf16": False}, "no", "float16"),
        ("auto", {"fp16": False}, "fp16", "float16"),
        ("bfloat16", {"bf16": True}, "bf16", "bfloat16"),
        ("auto", {}, "fp8", "fp8"),
    ],
)
def test_one_precision_is_agreed_on(precision: str, options: dict[str, object], launched: str, expected: str) -> None:
    assert agree_on_precision(precision, options, launched) == expected


@pytest.mark.parametrize(
    ("precision", "options", "launched", "message"),
    [
        ("float32", {"bf16": True}, "no", "precision says float32, but trainer.bf16 says bfloat16; take one of them"),
        ("bfloat16", {"bf16": False}, "no", "precision says bfloat16, but trainer.bf16 says float32"),
        ("bfloat16", {"fp16": True}, "no", "precision says bfloat16, but trainer.fp16 says float16"),
        ("float32", {}, "bf16", "precision says float32, but accelerate's mixed_precision says bfloat16"),
        ("auto", {"bf16": False}, "bf16", "trainer.bf16 says float32, but accelerate's mixed_precision says bfloat16"),
    ],
)
def test_precisions_that_contradict_each_other_are_refused(
    precision: str, options: dict[str, object], launched: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        agree_on_precision(precision, options, launched)


@pytest.mark.parametrize("word", ["FSDP", "DEEPSPEED"])
def test_sharding_without_a_gpu_is_refused(word: str) -> None:
    check_launch({f"ACCELERATE_USE_{word}": "true"}, has_gpu=True)
    check_launch({f"ACCELERATE_USE_{word}": "false"}, has_gpu=False)
    with pytest.raises(SettingsError, match=f"accelerate's file asks for {word}, which needs GPUs"):
        check_launch({f"ACCELERATE_USE_{word}": "true"}, has_gpu=False)


def test_processes_that_do_not_see_each_other_are_refused() -> None:
    check_processes({"WORLD_SIZE": "2"}, "MULTI_CPU", 2)
    with pytest.raises(SettingsError, match="2 processes were launched, but 1 see each other"):
        check_processes({"WORLD_SIZE": "2"}, "NO", 1)
    with pytest.raises(SettingsError, match="asks for FSDP, but NO runs"):
        check_processes({"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "true"}, "NO", 1)
    with pytest.raises(SettingsError, match="asks for DEEPSPEED, but MULTI_GPU runs"):
        check_processes({"WORLD_SIZE": "2", "ACCELERATE_USE_DEEPSPEED": "true"}, "MULTI_GPU", 2)


def test_fsdp_is_known_before_accelerate_names_it() -> None:
    """Accelerate reads the variable as "true" alone: state.py of 1.x, in AcceleratorState."""
    check_processes({"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "True"}, "MULTI_GPU", 2)
    assert is_fsdp({"ACCELERATE_USE_FSDP": "true"})
    assert not is_fsdp({})
    with pytest.raises(SettingsError, match="asks for FSDP, but MULTI_GPU runs"):
        check_processes({"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "1"}, "MULTI_GPU", 1)


@pytest.mark.parametrize("word", ["FSDP", "DEEPSPEED"])
def test_programs_in_a_dialogue_are_refused_where_ranks_generate_together(word: str) -> None:
    check_environment({f"ACCELERATE_USE_{word}": "true"}, 1)
    check_environment({}, 2)
    with pytest.raises(SettingsError, match=f"environment is set, but {word} runs on 2 ranks"):
        check_environment({f"ACCELERATE_USE_{word}": "true"}, 2)
