"""Chooses the configuration of the model to train."""

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError, SettingsError
from ..presets import make_config
from ..tokenization_codeshell import CodeShellTokenizer
from .settings import ModelSettings


def configure_model(model: ModelSettings, tokenizer: CodeShellTokenizer | None, *, longest_row: int) -> CodeShellConfig:
    """Makes the architecture's configuration, or reads that of the weights to start from.

    Args:
        model: Names the architecture or the weights.
        tokenizer: Its end of text and padding are the architecture's; `None` where only sizes are of interest.
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
        tokens: dict[str, object] = {}
        if tokenizer is not None:
            end_of_text, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
            tokens = {"bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": padding}
        config = make_config(model.preset, **(tokens | model.changes))
    if tokenizer is not None and len(tokenizer) > config.vocab_size:
        raise SettingsError(
            f"the shards' vocabulary has {len(tokenizer)} entries, but the embedding has "
            f"{config.vocab_size} rows; set model.changes.vocab_size to {len(tokenizer)} or more"
        )
    if longest_row > config.n_positions:
        raise SettingsError(
            f"schedule.phases has rows of {longest_row} tokens, but the model has {config.n_positions} positions; "
            f"set model.changes.n_positions to {longest_row} or shorten the rows"
        )
    return config
