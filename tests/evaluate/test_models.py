"""Models that are evaluated: folders, servers, programs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError, SettingsError
from codeshell_hf.evaluate.endpoint import EndpointGenerator
from codeshell_hf.evaluate.models import EvaluatedModel, choose_dialect, list_models, load_model
from codeshell_hf.evaluate.settings import EndpointSettings, LoadingSettings, ProgramSettings
from codeshell_hf.publish.folder import save_folder

VARIABLE = "SERVER_KEY"
MakeModel = Callable[..., CodeShellForCausalLM]


@pytest.fixture
def folder(tiny_model: MakeModel, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path) -> Path:
    save_folder(tiny_model(vocab_size=len(tiny_tokenizer)), tiny_tokenizer, tmp_path / "model")
    return tmp_path / "model"


def load(name: str, source: Path | EndpointSettings | ProgramSettings, dtype: str = "float32") -> EvaluatedModel:
    return load_model(name, source, LoadingSettings(batch_size=4), dtype=dtype)


def test_checkpoints_of_a_sweep_follow_the_models_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("step-20", "step-10", "no-model"):
        (tmp_path / name).mkdir()
        if name.startswith("step"):
            (tmp_path / name / "config.json").touch()
    (tmp_path / "log.jsonl").touch()

    listed = list_models({"base": tmp_path / "b"}, tmp_path)

    assert list(listed.items()) == [
        ("base", tmp_path / "b"),
        ("step-10", tmp_path / "step-10"),
        ("step-20", tmp_path / "step-20"),
    ]
    assert list_models({}, tmp_path / "none") == {}


def test_programs_have_no_generator(tmp_path: Path) -> None:
    model = load("theirs", ProgramSettings(programs={"humaneval": tmp_path / "a.jsonl"}))

    assert model.generator is model.model is None
    assert model.programs == {"humaneval": tmp_path / "a.jsonl"}
    assert model.describe() == {"programs": {"humaneval": str(tmp_path / "a.jsonl")}, "batch_size": 4}


def test_a_server_is_asked_with_its_key_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EndpointSettings(url="http://127.0.0.1:9/v1", model="m", token_variable=VARIABLE, calls_at_once=3)
    monkeypatch.setenv(VARIABLE, "not-a-real-one")

    model = load("served", settings)

    assert isinstance(model.generator, EndpointGenerator)
    client = model.generator.client
    assert (client.url, client.model, client.token, client.concurrency) == (settings.url, "m", "not-a-real-one", 3)
    assert "not-a-real-one" not in str(model.describe())
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(SettingsError, match=r"models\.served\.token_variable is SERVER_KEY, which is not set"):
        load("served", settings)


def test_a_folder_is_loaded_in_the_dtype_asked_for_and_its_parameters_counted(
    folder: Path, tiny_model: MakeModel
) -> None:
    model = load("ours", folder, "bfloat16")

    assert isinstance(model.model, CodeShellForCausalLM)
    assert isinstance(model.tokenizer, CodeShellTokenizer)
    assert model.model.dtype == torch.bfloat16
    assert not model.model.training
    # By hand: an embedding of V x 32, which is the output layer too, two blocks, a norm. A block's fused projection
    # gives 4 heads of queries and 2 groups of keys and values, 8 wide; its MLP is 4 times as wide as the stream; all
    # have biases.
    vocabulary = model.model.config.vocab_size
    attention = (32 * (32 + 2 * 16) + 64) + (32 * 32 + 32)
    mlp = (32 * 128 + 128) + (128 * 32 + 32)
    assert model.details["parameters"] == vocabulary * 32 + 2 * (attention + mlp + 4 * 32) + 2 * 32


def test_other_weights_or_another_dtype_are_another_identity(
    folder: Path, tiny_model: MakeModel, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    save_folder(tiny_model(seed=1, vocab_size=len(tiny_tokenizer)), tiny_tokenizer, tmp_path / "other")

    first, copy, other = (load("m", path).identity for path in (folder, tmp_path / "copy", tmp_path / "other"))

    assert first == copy
    assert [key for key in first if first[key] != other[key]] == ["weights"]
    rounded = load("m", folder, "bfloat16").identity
    assert [key for key in first if first[key] != rounded[key]] == ["dtype"]


def test_a_model_of_transformers_is_loaded_as_such(tiny_tokenizer: CodeShellTokenizer, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer), **sizes)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)

    assert isinstance(load("llama", tmp_path).model, LlamaForCausalLM)


def test_a_folder_without_weights_is_one_error(folder: Path) -> None:
    (folder / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"models\.ours is .*which holds no \*\.safetensors; name a model's"):
        load("ours", folder)


def test_a_served_model_fills_in_as_its_vocabulary_says(tmp_path: Path) -> None:
    vocabulary = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "[PREFIX]"}, {"content": "[SUFFIX]"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "bare.json").write_text('{"model": {"vocab": {}}}', encoding="utf-8")

    def choose(**settings: object) -> str:
        values = {"url": "http://127.0.0.1:9/v1", "model": "m", **settings}
        return choose_dialect("m", EndpointSettings.model_validate(values)).write("a", "b")

    assert choose() == "<fim_prefix>a<fim_suffix>b<fim_middle>"
    assert choose(infilling="qwen") == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    assert choose(tokenizer=tmp_path) == choose(tokenizer=tmp_path / "tokenizer.json") == "[SUFFIX]b[PREFIX]a"
    with pytest.raises(CheckpointError, match="has no sentinels of starcoder"):
        choose(tokenizer=tmp_path / "bare.json")
