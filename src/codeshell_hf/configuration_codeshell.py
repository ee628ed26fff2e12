"""CodeShell's configuration: GPT-2 with grouped-query attention and rotary positions.

This file travels to the Hub together with the weights. It imports torch's ecosystem and nothing else of the package.
"""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

SLIDING, FULL = "sliding_attention", "full_attention"


@strict
class CodeShellConfig(PreTrainedConfig):
    """The shape of a CodeShell model, under the field names of the released checkpoints.

    The standard names (`hidden_size`, `num_attention_heads`, `num_key_value_heads`, ...) read and write the same
    values. The defaults are CodeShell-7B's, except that dropout is off: the released configs state 0.1, which is active
    while training, and say so themselves.

    Args:
        vocab_size: Rows of the embedding. The released tokenizer has 70,020 entries; the rest is padding.
        n_positions: Longest sequence the model was trained for.
        n_embd: Width of the residual stream.
        n_layer: Number of blocks.
        n_head: Query heads.
        n_inner: Width of the MLP; `None` means `4 * n_embd`.
        num_query_groups: Key and value heads; `None` means one for each query head.
        group_query_attention: False means one key and value head for each query head.
        position_embedding_type: Only "rope" exists.
        activation_function: A name that transformers knows, or "swiglu" for a gated MLP with a third matrix `c_gate`.
        resid_pdrop: Dropout after each attention and MLP projection.
        embd_pdrop: Dropout of the embeddings.
        attn_pdrop: Dropout of the attention weights.
        layer_norm_epsilon: Added to the variance in every LayerNorm.
        initializer_range: Standard deviation of new weights; projections into the residual stream are divided by
            `sqrt(2 * n_layer)`, as in GPT-2.
        use_cache: Whether inference keeps keys and values.
        rope_parameters: As in transformers ("default", "linear", "dynamic", "yarn", ...). The older `rope_scaling` and
            `rope_theta` are accepted.
        sliding_window: Number of tokens that a sliding layer sees, the present one included.
        layer_types: "sliding_attention" or "full_attention" for each layer. With `sliding_window` alone, the layers
            alternate, the first one sliding.
        tie_word_embeddings: Whether the output layer is the embedding. The release is tied and does not say so.

    Raises:
        ValueError: If positions are not rotary, or heads, groups and widths do not divide.

    Source:
        CodeShell technical report, section 2.2; the release's `config.json`.
    """

    model_type = "codeshell"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "max_position_embeddings": "n_positions",
        "intermediate_size": "n_inner",
        "num_key_value_heads": "num_query_groups",
        "hidden_act": "activation_function",
    }
    # Queries, keys and values of unequal width share one matrix, so attention is computed whole on every rank.
    base_model_tp_plan: ClassVar[dict[str, Any] | None] = {
        "wte": "embedding_rowwise",
        "h.*.attn.c_attn": "colwise_gather_output",
        "h.*.attn.c_proj": "rowwise_split_input",
        "h.*.mlp.c_fc": "colwise",
        "h.*.mlp.c_proj": "rowwise",
    }
    base_model_pp_plan: ClassVar[dict[str, Any] | None] = {
        "wte": (["input_ids"], ["inputs_embeds"]),
        "h": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "ln_f": (["hidden_states"], ["hidden_states"]),
    }
    base_model_fsdp_plan: ClassVar[dict[Any, str]] = {
        "wte": "free_full_weight",
        "h.*": "free_full_weight",
        "ln_f": "keep_full_weight",
    }

    vocab_size: int = 70144
    n_positions: int = 8192
    n_embd: int = 4096
    n_layer: int = 42
    n_head: int = 32
    n_inner: int | None = None
    num_query_groups: int | None = 8
    group_query_attention: bool = True
    position_embedding_type: str = "rope"
    activation_function: str = "gelu_pytorch_tanh"
    resid_pdrop: float | int = 0.0
    embd_pdrop: float | int = 0.0
    attn_pdrop: float | int = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    rope_parameters: RopeParameters | dict[str, Any] | None = None
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    bos_token_id: int | None = 70000
    eos_token_id: int | list[int] | None = 70000
    pad_token_id: int | None = 70000
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        for name in self.attribute_map.keys() & kwargs.keys():
            setattr(self, name, kwargs.pop(name))  # before what is derived from them
        if self.n_inner is None:
            self.n_inner = 4 * self.n_embd
        if self.num_query_groups is None or not self.group_query_attention:
            self.num_query_groups = self.n_head
        if self.layer_types is None:
            even = FULL if self.sliding_window is None else SLIDING
            self.layer_types = [FULL if layer % 2 else even for layer in range(self.n_layer)]
        if self.activation_function == "swiglu":
            self.base_model_tp_plan = {**(self.base_model_tp_plan or {}), "h.*.mlp.c_gate": "colwise"}
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a configuration file; "kclgpt", the name in released configs, is read as "codeshell"."""
        config_dict, unused = super().get_config_dict(*args, **kwargs)
        if config_dict.get("model_type") == "kclgpt":
            config_dict["model_type"] = cls.model_type
        return config_dict, unused

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; the type is written as "codeshell", whichever alias was read."""
        return {**super().to_dict(), "model_type": CodeShellConfig.model_type}

    def validate_architecture(self) -> None:
        """Refuses what the model cannot compute.

        Raises:
            ValueError: With the value, the rule and the mend.
        """
        if self.position_embedding_type != "rope":
            raise ValueError(
                f"position_embedding_type is {self.position_embedding_type!r}, but CodeShell has rotary positions only;"
                ' set position_embedding_type="rope"'
            )
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd is {self.n_embd}, which {self.n_head} heads do not divide; "
                f"set n_head to a divisor or n_embd to {self.n_embd // self.n_head * self.n_head}"
            )
        if (self.n_embd // self.n_head) % 2:
            raise ValueError(
                f"n_embd / n_head is {self.n_embd // self.n_head}, but rotary positions turn pairs; make it even"
            )
        groups = self.num_query_groups or 0
        if groups < 1 or self.n_head % groups:
            raise ValueError(
                f"num_query_groups is {groups}, which does not divide n_head {self.n_head}; set a divisor of n_head"
            )
        if any(isinstance(value, dict) for value in (self.rope_parameters or {}).values()):
            raise ValueError(
                "rope_parameters differ by layer type, but all layers of CodeShell turn alike; give one flat dictionary"
            )
        types = self.layer_types or []
        if unknown := sorted(set(types) - {SLIDING, FULL}):
            raise ValueError(f"layer_types holds {unknown[0]!r}; use {SLIDING!r} or {FULL!r}")
        if SLIDING in types and self.sliding_window is None:
            raise ValueError(f"layer_types holds {SLIDING!r} but sliding_window is None; set sliding_window in tokens")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window is {self.sliding_window}; it must be at least 1 token, or None")


__all__ = ["CodeShellConfig"]
