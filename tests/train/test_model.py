"""The configuration of the model to train: of a preset for a tiny_tokenizer, or of weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

from codeshell_hf import CodeShellConfig, CodeShellTokenizer
from codeshell_hf.errors import CheckpointError, SettingsError
from codeshell_hf.presets import make_config as make_preset
from codeshell_hf.train.model import configure_model
from codeshell_hf.train.settings import ModelSettings


def test_a_preset_gets_the_tokenizers_ids_and_keeps_its_sizes(tiny_tokenizer: CodeShellTokenizer) -> None:
    end, padding = (
        tiny_tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", tiny_tokenizer.pad_token)
    )
    preset = make_preset("nano")
    sizes = ("vocab_size", "n_positions", "n_layer", "n_embd", "n_head")

    config = configure_model(ModelSettings(preset="nano"), tiny_tokenizer, longest_row=preset.n_positions)

    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (end, end, padding)
    assert [getattr(config, size) for size in sizes] == [getattr(preset, size) for size in sizes]
    alone = configure_model(ModelSettings(changes={"n_layer": 1, "eos_token_id": 9}), tiny_tokenizer, longest_row=8)
    assert (alone.n_layer, alone.eos_token_id) == (1, 9)


def test_what_does_not_fit_the_model_is_refused_with_the_mend(tiny_tokenizer: CodeShellTokenizer) -> None:
    size = len(tiny_tokenizer)

    fits = configure_model(ModelSettings(changes={"vocab_size": size, "n_positions": 8}), tiny_tokenizer, longest_row=8)

    assert (fits.vocab_size, fits.n_positions) == (size, 8)
    with pytest.raises(SettingsError, match=rf"has {size - 1} rows; set model.changes.vocab_size to {size} or more"):
        configure_model(ModelSettings(changes={"vocab_size": size - 1}), tiny_tokenizer, longest_row=8)
    with pytest.raises(SettingsError, match=r"rows of 9 tokens, but the model has 8 .*n_positions to 9 or shorten"):
        configure_model(ModelSettings(changes={"n_positions": 8}), None, longest_row=9)


def test_weights_have_their_own_configuration(
    make_config: Callable[..., CodeShellConfig], tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    make_config(vocab_size=512, eos_token_id=5).save_pretrained(tmp_path)

    config = configure_model(ModelSettings(start_from=str(tmp_path)), tiny_tokenizer, longest_row=8)

    assert (config.vocab_size, config.eos_token_id) == (512, 5)
    with pytest.raises(CheckpointError, match=r"none cannot be loaded \(.*; name a complete CodeShell checkpoint"):
        configure_model(ModelSettings(start_from=str(tmp_path / "none")), tiny_tokenizer, longest_row=8)
