# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""CodeShell's configuration: GPT-2 with grouped-query attention and rotary positions.

This file is published on the Hub beside the weights. It imports nothing else of the package.
"""

import sys
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters
from transformers.utils import auto_docstring

SLIDING, FULL = "sliding_attention", "full_attention"


@auto_docstring(
    custom_intro="""
    The shape of a CodeShell model.

    The names of the released checkpoints (`n_embd`, `n_layer`, `n_head`, `n_inner`, `n_positions`, `num_query_groups`,
    `activation_function`) are aliases of transformers' own. `config.json` has the released names, which llama.cpp
    reads; `to_dict()` has both, since PEFT reads transformers'. The defaults are CodeShell-7B's, except for dropout,
    which is off; the released configs set it to 0.1.

    Positions that are not rotary, heads and groups that do not divide, and different values for two aliases raise
    `ValueError`. Source: CodeShell technical report, section 2.2; the release's `config.json`.
    """
)
@strict
class CodeShellConfig(PreTrainedConfig):
    """The shape of a CodeShell model.

    Args:
        vocab_size (`int`):
            Rows of the embedding. The released tokenizer has 70,020 entries; the other rows are padding.
        max_position_embeddings (`int`):
            Longest sequence the model was trained for.
        hidden_size (`int`):
            Width of the residual stream.
        num_hidden_layers (`int`):
            Number of blocks.
        num_attention_heads (`int`):
            Query heads.
        intermediate_size (`int`):
            Width of the MLP; `None` means `4 * hidden_size`.
        num_key_value_heads (`int`):
            Key and value heads, or query groups; `None` means one for each query head.
        group_query_attention (`bool`):
            False means one key and value head for each query head.
        position_embedding_type (`str`):
            Only "rope" exists.
        hidden_act (`str`):
            An activation of transformers, or "swiglu" for a gated MLP with a third matrix `c_gate`.
        resid_pdrop (`float`):
            Dropout after each attention and MLP projection.
        embd_pdrop (`float`):
            Dropout of the embeddings.
        attn_pdrop (`float`):
            Dropout of the attention weights.
        layer_norm_epsilon (`float`):
            Added to the variance in every LayerNorm.
        initializer_range (`float`):
            Standard deviation of new weights; for projections into the residual stream it is divided by `sqrt(2 *
            num_hidden_layers)`, as in GPT-2.
        use_cache (`bool`):
            Whether inference keeps keys and values.
        rope_parameters (`RopeParameters`):
            As in transformers ("default", "linear", "dynamic", "yarn", ...). The older `rope_scaling` and
            `rope_theta` are accepted.
        sliding_window (`int`):
            Number of tokens that a token attends to in a sliding layer, itself included.
        layer_types (`list[str]`):
            "sliding_attention" or "full_attention" for each layer. By default, with a `sliding_window`, layers
            alternate and the first is sliding; such a default is recomputed if the depth or the window changes later.
        tie_word_embeddings (`bool`):
            Whether the output layer shares the embedding's weights. The release does, but its configs lack the key.
    """

    model_type = "codeshell"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    attribute_map: ClassVar[dict[str, str]] = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "n_inner": "intermediate_size",
        "num_query_groups": "num_key_value_heads",
        "activation_function": "hidden_act",
    }
    # Queries, keys and values of unequal widths share one matrix, so every rank computes all of the attention.
    base_model_tp_plan: ClassVar[dict[str, str] | None] = {
        "wte": "embedding_rowwise",
        "h.*.attn.c_attn": "colwise_gather_output",
        "h.*.attn.c_proj": "rowwise_split_input",
        "h.*.mlp.c_fc": "colwise",
        "h.*.mlp.c_proj": "rowwise",
    }
    base_model_pp_plan: ClassVar[dict[str, tuple[list[str], list[str]]] | None] = {
        "wte": (["input_ids"], ["inputs_embeds"]),
        "h": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "ln_f": (["hidden_states"], ["hidden_states"]),
    }
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {
        "wte": "free_full_weight",
        "h.*": "free_full_weight",
        "ln_f": "keep_full_weight",
    }

    vocab_size: int = 70144
    max_position_embeddings: int = 8192
    hidden_size: int = 4096
    num_hidden_layers: int = 42
    num_attention_heads: int = 32
    intermediate_size: int | None = None
    num_key_value_heads: int | None = 8
    group_query_attention: bool = True
    position_embedding_type: str = "rope"
    hidden_act: str = "gelu_pytorch_tanh"
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

    def __new__(cls, *_: object, **kwargs: object) -> "CodeShellConfig":
        """Refuses two values for one field; afterwards, defaults and given values look the same."""
        for alias, name in cls.attribute_map.items():
            if alias in kwargs and name in kwargs and kwargs[alias] != kwargs[name]:
                raise ValueError(
                    f"{name} is {kwargs[name]} and {alias} is {kwargs[alias]}, but both are names of one value; "
                    "give one of them"
                )
        return super().__new__(cls)

    def __post_init__(self, **kwargs: object) -> None:
        for alias in self.attribute_map.keys() & kwargs.keys():
            setattr(self, alias, kwargs.pop(alias))  # before values that are derived from them
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.num_key_value_heads is None or not self.group_query_attention:
            self.num_key_value_heads = self.num_attention_heads
        if self.layer_types is None:
            self.layer_types = self._alternate_layers()
        if self.hidden_act == "swiglu":
            self.base_model_tp_plan = {**(self.base_model_tp_plan or {}), "h.*.mlp.c_gate": "colwise"}
        super().__post_init__(**kwargs)
        plan = self.base_model_tp_plan or {}
        if "embed_tokens" in plan:  # older transformers add tied embeddings under a name that no module here has
            self.base_model_tp_plan = {name: how for name, how in plan.items() if name != "embed_tokens"}

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.attribute_map:  # under the field's name, for which types are checked
            setattr(self, self.attribute_map[name], value)
            return
        follows = (
            name in ("num_hidden_layers", "sliding_window")
            and self.__dict__.get("layer_types") is not None
            and self.layer_types == self._alternate_layers()
        )
        super().__setattr__(name, value)
        if follows:
            self.layer_types = self._alternate_layers()

    def _alternate_layers(self) -> list[str]:
        even = FULL if self.sliding_window is None else SLIDING
        return [FULL if layer % 2 else even for layer in range(self.num_hidden_layers)]

    @classmethod
    def get_config_dict(cls, *args: object, **kwargs: object) -> tuple[dict[str, object], dict[str, object]]:
        """Reads a configuration file; "kclgpt", the name in released configs, is read as "codeshell"."""
        config_dict, unused = super().get_config_dict(*args, **kwargs)
        if config_dict.get("model_type") == "kclgpt":
            config_dict["model_type"] = cls.model_type
        return config_dict, unused

    def to_dict(self) -> dict[str, object]:
        """The fields as plain values under both names; the type is "codeshell" even if "kclgpt" was read."""
        register_peft_targets()
        released = {alias: getattr(self, name) for alias, name in self.attribute_map.items()}
        return {**super().to_dict(), **released, "model_type": CodeShellConfig.model_type}

    def to_diff_dict(self) -> dict[str, object]:
        """The content of `config.json`: each value once, under the released name, which llama.cpp reads."""
        names = self.attribute_map.values()
        return {name: value for name, value in super().to_diff_dict().items() if name not in names}

    def validate_architecture(self) -> None:
        """Raises `ValueError` for an architecture that the model cannot compute."""
        if self.position_embedding_type != "rope":
            raise ValueError(
                f"position_embedding_type is {self.position_embedding_type!r}, but CodeShell has rotary positions only;"
                ' set position_embedding_type="rope"'
            )
        width, heads, groups = self.hidden_size, self.num_attention_heads, self.num_key_value_heads or 0
        if width % heads:
            raise ValueError(
                f"n_embd is {width}, which {heads} heads do not divide; "
                f"set n_head to a divisor or n_embd to {width // heads * heads}"
            )
        if (width // heads) % 2:
            raise ValueError(f"n_embd / n_head is {width // heads}, but rotary positions rotate pairs; make it even")
        if groups < 1 or heads % groups:
            raise ValueError(
                f"num_query_groups is {groups}, which does not divide n_head {heads}; set a divisor of n_head"
            )
        if any(isinstance(value, dict) for value in (self.rope_parameters or {}).values()):
            raise ValueError(
                "rope_parameters differ by layer type, but all layers of CodeShell share one rotary embedding; "
                "give one flat dictionary"
            )
        types = self.layer_types or []
        if unknown := sorted(set(types) - {SLIDING, FULL}):
            raise ValueError(f"layer_types holds {unknown[0]!r}; use {SLIDING!r} or {FULL!r}")
        if len(types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(types)} layers, but num_hidden_layers is {self.num_hidden_layers}; "
                "give one type a layer"
            )
        if SLIDING in types and self.sliding_window is None:
            raise ValueError(f"layer_types holds {SLIDING!r} but sliding_window is None; set sliding_window in tokens")
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window is {self.sliding_window}; it must be at least 1 token, or None")


def register_peft_targets() -> None:
    """Adds CodeShell's default `target_modules` to PEFT, if it is loaded.

    PEFT looks them up by `model_type` in tables of its own, which nothing else can extend; right before, it calls
    `to_dict`. GPTBigCode has the same modules under the same names.
    """
    tables: dict[str, dict[str, object]] = getattr(sys.modules.get("peft.utils.constants"), "__dict__", {})
    for name, table in tables.items():
        if name.endswith(("_TARGET_MODULES_MAPPING", "_FEEDFORWARD_MODULES_MAPPING")) and "gpt_bigcode" in table:
            table.setdefault(CodeShellConfig.model_type, table["gpt_bigcode"])


__all__ = ["CodeShellConfig"]
