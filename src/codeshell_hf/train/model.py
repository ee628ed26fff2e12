"""Chooses the configuration of the model to train."""

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError, SettingsError
from ..presets import make_config
from .settings import ModelSettings


def configure_model(
    model: ModelSettings, *, end_of_text: int, padding: int | None, vocab_size: int, longest_row: int
) -> CodeShellConfig:
    """Makes the architecture's configuration, or reads that of the weights to start from.

    Args:
        model: Names the architecture or the weights.
        end_of_text: Id of the end-of-text token.
        padding: Id of the padding token.
        vocab_size: Entries of the tokenizer.
        longest_row: In tokens.

    Raises:
        CheckpointError: If the weights' configuration cannot be read.
        SettingsError: If the vocabulary or the rows do not fit the model.
    """
    if model.start_from is not None:
        try:
            config: CodeShellConfig = CodeShellConfig.from_pretrained(model.start_from)
        except Exception as error:  # JSON, the Hub and the file system each raise their own
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{model.start_from} cannot be loaded ({reason}); name a complete CodeShell checkpoint"
            ) from error
    else:
        tokens: dict[str, object] = {
            "bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": padding
        }  # fmt: skip
        config = make_config(model.preset, **(tokens | model.changes))
    if vocab_size > config.vocab_size:
        raise SettingsError(
            f"the shards' vocabulary has {vocab_size} entries, but the embedding has "
            f"{config.vocab_size} rows; set model.changes.vocab_size to {vocab_size} or more"
        )
    if longest_row > config.n_positions:
        raise SettingsError(
            f"schedule.phases has rows of {longest_row} tokens, but the model has {config.n_positions} positions; "
            f"set model.changes.n_positions to {longest_row} or shorten the rows"
        )
    return config
