"""Architectures by name."""

from .configuration_codeshell import CodeShellConfig
from .errors import SettingsError
from .settings import unknown_key

PRESETS: dict[str, dict[str, object]] = {
    "codeshell-7b": {},
    "codeshell-small": {"n_layer": 24, "n_embd": 2048, "n_head": 16, "num_query_groups": 4, "n_inner": 8192},
    "code-34b-zero3": {
        "vocab_size": 50_048,
        "n_layer": 64,
        "n_embd": 8192,
        "n_head": 64,
        "num_query_groups": 8,
        "n_inner": 22_784,
        "n_positions": 4096,
    },
    "code-34b-fsdp": {
        "vocab_size": 64_000,
        "n_layer": 48,
        "n_embd": 5120,
        "n_head": 40,
        "num_query_groups": 10,
        "n_inner": 40_960,
        "activation_function": "swiglu",
        "n_positions": 8192,
        "sliding_window": 2048,
        "tie_word_embeddings": False,
    },
    "general-65b-zero3": {
        "vocab_size": 128_000,
        "n_layer": 80,
        "n_embd": 8192,
        "n_head": 64,
        "num_query_groups": 64,
        "n_inner": 32_768,
        "n_positions": 8192,
    },
    "instruct-65b-fsdp": {
        "vocab_size": 128_000,
        "n_layer": 80,
        "n_embd": 8192,
        "n_head": 64,
        "num_query_groups": 64,
        "n_inner": 22_016,
        "activation_function": "swiglu",
        "n_positions": 4096,
    },
    "nano": {
        "vocab_size": 4096,
        "n_layer": 4,
        "n_embd": 192,
        "n_head": 6,
        "num_query_groups": 2,
        "n_inner": 768,
        "n_positions": 1024,
    },
}

RELEASED_TOKEN = 70_000  # the release's end of text, also its beginning and padding: the configuration's defaults
# Other vocabularies have other ids, which only their tokenizer knows.
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def make_config(name: str, **changes: object) -> CodeShellConfig:
    """Makes the configuration of a system.

    Args:
        name: A key of `PRESETS`.
        changes: Fields that differ. Without ids of special tokens, they are the release's if they fit, else `None`.

    Raises:
        SettingsError: If there is no such system, no such field, or the values contradict each other.
    """
    if name not in PRESETS:
        raise SettingsError(unknown_key(name, PRESETS, "in model.preset"))
    # Fields by the release's names, so that changes replace the preset's values.
    released = {field: alias for alias, field in CodeShellConfig.attribute_map.items()}
    fields = [released.get(field, field) for field in CodeShellConfig.__dataclass_fields__]
    if unknown := sorted(changes.keys() - set(fields)):
        raise SettingsError(unknown_key(unknown[0], fields, "in model"))
    values = PRESETS[name] | changes
    size = values.get("vocab_size", CodeShellConfig.vocab_size)
    if isinstance(size, int) and size <= RELEASED_TOKEN:
        values = dict.fromkeys(_TOKENS) | values
    try:
        return CodeShellConfig(**values)
    except Exception as error:  # huggingface_hub wraps errors in its own
        reason = " ".join(str(error.__cause__ or error).split())
        for field, alias in released.items():
            reason = reason.replace(field, alias)
        raise SettingsError(f"model: {reason}") from error


def count_parameters(config: CodeShellConfig) -> int:
    """The number of parameters of a causal language model; a tied embedding counts once."""
    width, head = config.n_embd, config.n_embd // config.n_head
    inner, groups = config.n_inner or 4 * width, config.num_query_groups or config.n_head
    query_key_value = width + 2 * groups * head
    matrices = 3 if config.activation_function == "swiglu" else 2
    attention = width * query_key_value + query_key_value + width * width + width
    mlp = matrices * width * inner + (matrices - 1) * inner + width
    block = attention + mlp + 2 * 2 * width
    return int(config.n_layer * block + 2 * width + count_ends(config))


def count_shared(config: CodeShellConfig) -> int:
    """Numbers of a token's keys, or of its values."""
    return int((config.num_query_groups or config.n_head) * (config.n_embd // config.n_head))


def count_block_numbers(config: CodeShellConfig) -> int:
    """Counts the numbers that one block saves per token for its backward pass.

    They are its input, both norms' outputs, queries and keys after rotation, the fused projection, attention's output,
    the residual between attention and MLP, and the MLP's inner width before and after its activation.
    """
    width, shared = config.n_embd, count_shared(config)
    inner = config.n_inner or 4 * width
    return int(7 * width + 3 * shared + (4 if config.activation_function == "swiglu" else 2) * inner)


def count_ends(config: CodeShellConfig) -> int:
    """Numbers of the embedding and the output layer, which may be one."""
    return int(config.vocab_size * config.n_embd * (1 if config.tie_word_embeddings else 2))


def count_block_matrices(config: CodeShellConfig) -> int:
    """Numbers of the blocks' matrices."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    matrices = 3 if config.activation_function == "swiglu" else 2
    return int(config.n_layer * width * (2 * width + 2 * count_shared(config) + matrices * inner))
