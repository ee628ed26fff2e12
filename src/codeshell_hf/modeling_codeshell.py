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
"""CodeShell's model: GPT-2 with grouped-query attention, rotary positions and one matrix for queries, keys and values.

This file is published on the Hub beside the weights. It imports only torch, transformers and its own configuration.
"""

# B batch, T tokens, D width, H heads, G query groups, W head width, V vocabulary
import copy
import math
import pickle
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationConfig, GenerationMixin, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.integrations import use_kernel_forward_from_hub, use_kernelized_func
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_causal_mask,
    create_sliding_window_causal_mask,
    flash_attention_mask,
)
from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    GradientCheckpointingLayer,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, cached_file, can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_codeshell import CodeShellConfig

logger = logging.get_logger(__name__)

MODELING = "modeling_codeshell.CodeShell"
AUTO_MAP = {
    "AutoConfig": "configuration_codeshell.CodeShellConfig",
    "AutoModel": f"{MODELING}Model",
    "AutoModelForCausalLM": f"{MODELING}ForCausalLM",
    "AutoModelForSequenceClassification": f"{MODELING}ForSequenceClassification",
    "AutoModelForTokenClassification": f"{MODELING}ForTokenClassification",
    "AutoModelForQuestionAnswering": f"{MODELING}ForQuestionAnswering",
}
HUB_ARGUMENTS = frozenset(
    {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "proxies"}
)
# Arguments of `from_pretrained` without an effect on a 4-bit release.
IDLE_ARGUMENTS = frozenset(
    {
        "trust_remote_code",
        "resume_download",
        "code_revision",
        "low_cpu_mem_usage",
        "use_safetensors",
        "weights_only",
        "adapter_kwargs",
    }
)
PUSH_ARGUMENTS = frozenset({"commit_message", "create_pr", "private", "revision", "tags", "token"})
# transformers 5.24 renamed `past_key_values` to `cache`. Every forward here takes both names. Calls into transformers
# and outputs use the name of the installed version.
CACHE_NAME = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
# Keywords that a forward passes on to attention, the loss and the recording of outputs. No others have an effect.
HANDED_ON = frozenset(TransformersKwargs.__annotations__) | {
    "return_dict", "shift_labels", "ignore_index", "kernel_options",  # outputs, the loss and FlexAttention
    "debug_io", "debug_io_dir", "prune_layers",  # transformers' tracer
    "tokenizer", "assistant_tokenizer",  # passed by `generate` with stop strings, and unused
    "block_table", "read_index", "write_index", "logits_indices", "logits_processor_args",  # continuous batching
}  # fmt: skip
LayerMask = Tensor | BlockMask | None
AttentionMask = LayerMask | dict[str, LayerMask]  # one for all layers, or one per layer type
BACKENDS = ("eager", "sdpa", "flex_attention", "varlen", "varlen_fa4", "paged|eager")
PACKED_WITH_CACHE = (
    f"position_ids restart or cu_seq_lens hold several documents in one row while a cache is given: a cache cannot "
    f"tell documents apart; pass {CACHE_NAME}=None, or one document a row"
)
PACKED_WITHOUT_LENGTHS = (
    "position_ids restart inside a row of compiled FlashAttention, which reads lengths only; "
    "pass cu_seq_lens_q, cu_seq_lens_k, max_length_q and max_length_k"
)
LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
OTHER_LENGTHS = "position_ids restart where cu_seq_lens_q has no boundary; pass lengths of the same documents"
# The released chat format, and the texts at which the release's `chat` stops.
USER, ASSISTANT, END_OF_TURN = "## human:", "## assistant:", "|<end>|"
CHAT_STOPS = (END_OF_TURN, "|end|", "<|endoftext|>", "## human")
ANSWER_TOKENS = 128  # of `chat`, if the generation config has no max_new_tokens
# The release's 4-bit layout: two codes per byte, and bitsandbytes 0.4x's list beside them.
PICKLED, CODES, STATE = "pytorch_model.bin", ".data", ".quant_state"
# Dettmers et al. 2023, arXiv:2305.14314, appendix E, and the four-bit floats of bitsandbytes 0.4x.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
FP4 = tuple(value / 12 for value in (*_FP4, *(-value for value in _FP4)))
MIN_FLEX_WIDTH = 16  # smallest head width of FlexAttention's GPU kernel


def choose_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """Returns the cache, which may be given under either name; `past_key_values` is the one before transformers 5.24.

    Raises:
        ValueError: If two caches are given. PEFT's prefix tuning does so in `generate` on transformers 5.24: it passes
            a cache of the prefix at each token, in addition to the one that `generate` fills.
    """
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise ValueError(
            "cache and past_key_values are two names of one argument, and two caches are given; pass cache alone, and "
            "for PEFT's prefix tuning on transformers 5.24 use_cache=False"
        )
    # As transformers' own models do, but not while compiling, since a warning breaks the graph.
    if past_key_values is not None and CACHE_NAME == "cache" and not torch.compiler.is_compiling():
        warnings.warn("`past_key_values` is deprecated; pass it as `cache`", FutureWarning, stacklevel=3)
    return past_key_values if cache is None else cache


def refuse_unknown(keywords: dict[str, object], attention: str) -> None:
    """Refuses keywords that no part of the model reads; a cache under another name, say, would be silently ignored.

    Args:
        keywords: Extra keywords of a forward; those that are `None` are allowed.
        attention: The implementation in use. A custom one may have keywords of its own, but no cache.

    Raises:
        TypeError: Names the keyword.
    """
    is_known = attention in BACKENDS or "flash" in attention
    for keyword, value in keywords.items():
        if value is not None and keyword not in HANDED_ON and (is_known or isinstance(value, Cache)):
            raise TypeError(
                f"{keyword} is not an argument of CodeShell's forward, and nothing that attention, the loss or the "
                "outputs take; leave it out (keys and values go by the name of cache or past_key_values)"
            )


def read_config(name: str | Path, arguments: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration that arguments of `from_pretrained` give, or else that of the checkpoint."""
    config = arguments.get("config")
    if isinstance(config, PreTrainedConfig):  # a copy of this file may be given another copy's class
        return config
    asked = {key: arguments[key] for key in HUB_ARGUMENTS & arguments.keys()}
    return CodeShellConfig.from_pretrained(config or name, **asked)


def is_paged_cache(cache: object) -> bool:
    """Whether a cache is that of continuous batching.

    Compares class names, without an import, so that published models load even if a release moves the class.
    """
    return any(base.__name__ == "PagedAttentionCache" for base in type(cache).__mro__)


def keep_positions(hidden_states: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """Selects the positions that get logits. Servers pin older transformers, which lack a function for it.

    Args:
        hidden_states: Shape (B, T, D).
        logits_to_keep: Number of last positions, 0 for all; or positions, shape (K,) for all rows or (B, K) for each
            row; or a bool mask, shape (B, T).

    Returns:
        Shape (B, K, D); for a mask (K, D), with K positions in total.
    """
    if isinstance(logits_to_keep, int):
        return hidden_states[:, -logits_to_keep:]
    if logits_to_keep.dtype == torch.bool and logits_to_keep.ndim == 2:
        return hidden_states[logits_to_keep]
    if logits_to_keep.ndim == 2:
        return hidden_states.take_along_dim(logits_to_keep[..., None], dim=1)
    return hidden_states[:, logits_to_keep]


def rotate_half(x: Tensor) -> Tensor:
    """Swaps the halves of the last dimension, and negates the one that is then first.

    Args:
        x: Shape (..., W), W even.

    Returns:
        Shape (..., W).
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


@use_kernel_forward_from_hub("rotary_pos_emb")
def apply_rotary_pos_emb(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Rotates queries and keys by their positions.

    Args:
        q: Queries, shape (B, H, T, W).
        k: Keys, shape (B, G, T, W).
        cos: Cosines, shape (B, T, W).
        sin: Sines, shape (B, T, W).
        unsqueeze_dim: Dimension of the heads.

    Returns:
        Rotated queries and keys, of the same shapes.

    Source:
        Su et al. 2021, arXiv:2104.09864, in the half-split layout of GPT-NeoX.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def repeat_kv(hidden_states: Tensor, repeats: int) -> Tensor:
    """Repeats keys or values for each query head of a group.

    Args:
        hidden_states: Shape (B, G, T, W).
        repeats: H / G.

    Returns:
        Shape (B, H, T, W); head h reads group h // repeats.
    """
    return hidden_states if repeats == 1 else hidden_states.repeat_interleave(repeats, dim=1)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention step by step, with the softmax in float32; the reference for every other implementation.

    Args:
        module: The attention layer; read for its query heads per group and its training mode.
        query: Shape (B, H, T, W).
        key: Shape (B, G, S, W).
        value: Shape (B, G, S, W).
        attention_mask: Added to the scores, or a bool mask, true where a token is attended to; shape (B, 1, T, S).
        scaling: Multiplies the scores.
        dropout: Share of weights set to zero while training, 0 to 1.
        kwargs: Unused arguments of other implementations.

    Returns:
        Output of shape (B, T, H, W) and weights of shape (B, H, T, S).
    """
    key, value = repeat_kv(key, module.num_key_value_groups), repeat_kv(value, module.num_key_value_groups)
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


@use_kernelized_func(apply_rotary_pos_emb)
class CodeShellAttention(nn.Module):
    """Causal self-attention whose query heads share keys and values in groups."""

    def __init__(self, config: CodeShellConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.query_dim = config.num_attention_heads * self.head_dim
        self.kv_dim = config.num_key_value_heads * self.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        is_sliding = config.layer_types[layer_idx] == "sliding_attention"
        self.sliding_window = config.sliding_window if is_sliding else None
        self.c_attn = nn.Linear(config.hidden_size, config.hidden_size + 2 * self.kv_dim)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.c_proj.writes_residual = True

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor | None]:
        cache = choose_cache(cache, past_key_values)
        B, T = hidden_states.shape[:2]
        widths = (self.query_dim, self.kv_dim, self.kv_dim)
        query, key, value = (
            part.view(B, T, -1, self.head_dim).transpose(1, 2)
            for part in self.c_attn(hidden_states).split(widths, dim=-1)
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if not is_paged_cache(cache):
            if cache is not None:
                key, value = cache.update(key, value, self.layer_idx)
        elif CACHE_NAME == "cache":
            key, value = cache.update(key, value, self.layer_idx, kwargs)  # selects this layer's lengths
        else:
            kwargs["cache"] = cache  # before 5.24, the attention function updates a paged cache

        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attn_pdrop if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        output = self.c_proj(output.reshape(B, T, -1).contiguous())
        return nn.functional.dropout(output, p=self.config.resid_pdrop, training=self.training), weights


class CodeShellMLP(nn.Module):
    """Two linear layers with an activation between them; three for "swiglu"."""

    def __init__(self, config: CodeShellConfig) -> None:
        super().__init__()
        is_gated = config.hidden_act == "swiglu"
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size)
        self.c_gate = nn.Linear(config.hidden_size, config.intermediate_size) if is_gated else None
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.c_proj.writes_residual = True
        self.act = ACT2FN["silu" if is_gated else config.hidden_act]
        self.resid_pdrop = config.resid_pdrop

    def forward(self, hidden_states: Tensor) -> Tensor:
        inner = self.c_fc(hidden_states)
        inner = self.act(inner) if self.c_gate is None else self.act(self.c_gate(hidden_states)) * inner
        return nn.functional.dropout(self.c_proj(inner), p=self.resid_pdrop, training=self.training)


class CodeShellBlock(GradientCheckpointingLayer):
    """Attention and MLP, each after a LayerNorm of its own and added to the residual stream."""

    def __init__(self, config: CodeShellConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = CodeShellAttention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = CodeShellMLP(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Tensor:
        attended, _ = self.attn(
            self.ln_1(hidden_states),
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=choose_cache(cache, past_key_values),
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class CodeShellRotaryEmbedding(nn.Module):
    """Cosines and sines of the positions, shared by all layers, with every RoPE scaling of transformers."""

    def __init__(self, config: CodeShellConfig) -> None:
        super().__init__()
        self.config = config
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        compute = self.compute_default_rope_parameters
        if self.rope_type != "default":
            compute = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = compute(config)
        # Loading replaces every buffer that is not in the checkpoint; transformers recomputes these two by name.
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CodeShellRotaryEmbedding":
        frequencies = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        # `.half()` and `.to(torch.bfloat16)` may move them but must not round them: at position 8,000 a rounded
        # frequency puts the angle off by many radians.
        for name, exact in frequencies.items():
            moved = self.get_buffer(name)
            if moved.dtype != exact.dtype:
                setattr(self, name, exact.to(moved.device))
        return self

    @staticmethod
    def compute_default_rope_parameters(config: CodeShellConfig, **kwargs: object) -> tuple[Tensor, float]:
        """The frequencies of unscaled rotary positions.

        Args:
            config: Has the base and the head width.
            kwargs: Unused arguments of scaled types.

        Returns:
            Frequencies, shape (W / 2,), float32, and the factor of cosines and sines, here 1.
        """
        width = config.hidden_size // config.num_attention_heads
        exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
        return 1.0 / (config.rope_parameters["rope_theta"] ** exponents), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float32)
        angles = torch.cat((angles, angles), dim=-1)  # (B, T, W)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(x.dtype), sin.to(x.dtype)


def find_document_starts(
    shape: tuple[int, int],
    position_ids: Tensor | None,
    attention_mask: Tensor | None,
    cu_seq_lens: Tensor | None,
) -> Tensor:
    """Finds the document boundaries inside packed rows.

    Args:
        shape: (B, T).
        position_ids: Shape (B, T) or (1, T); a document starts where they do not increase by one.
        attention_mask: Shape (B, S), S >= T; positions of padding are ignored.
        cu_seq_lens: Cumulative lengths over the concatenated rows, shape (N + 1,), from 0 to B * T.

    Returns:
        Shape (B, T - 1), bool: whether token t + 1 belongs to another document than token t.
    """
    B, T = shape
    device = next(given.device for given in (position_ids, cu_seq_lens) if given is not None)
    starts = torch.zeros(B, T - 1, dtype=torch.bool, device=device)
    if position_ids is not None:
        starts = starts | (position_ids[:, 1:] != position_ids[:, :-1] + 1)
        if attention_mask is not None:
            attended = attention_mask[:, -T:].to(device=device, dtype=torch.bool)
            position_ids = position_ids.expand(B, -1)
            starts = starts & attended[:, 1:] & attended[:, :-1]
            # After padding inside a row, a document starts unless positions are beyond the last one before the padding.
            places = torch.where(attended, torch.arange(T, device=device), -1).cummax(-1).values[:, :-1]
            seen = position_ids.gather(1, places.clamp(min=0))
            behind_padding = attended[:, 1:] & ~attended[:, :-1] & (places >= 0)
            starts = starts | (behind_padding & (position_ids[:, 1:] <= seen))
    if cu_seq_lens is not None:
        tokens = torch.arange(B * T, device=device, dtype=cu_seq_lens.dtype)
        documents = torch.searchsorted(cu_seq_lens, tokens, right=True).view(B, T)
        starts = starts | (documents[:, 1:] != documents[:, :-1])
    return starts


def check_flex_heads(config: CodeShellConfig, device: torch.device) -> None:
    """Refuses heads too narrow for FlexAttention's kernel, which would fail with a compiler's traceback.

    Args:
        config: The architecture, and the attention in use.
        device: Device of the model.

    Raises:
        ValueError: If heads are narrower than `MIN_FLEX_WIDTH`.
    """
    width = config.hidden_size // config.num_attention_heads
    # trf-ignore: TRF051 - nothing is dispatched here; the kernel's own error is a compiler's traceback
    if config._attn_implementation == "flex_attention" and device.type == "cuda" and width < MIN_FLEX_WIDTH:
        raise ValueError(
            f"heads are {width} wide (n_embd {config.hidden_size}, n_head {config.num_attention_heads}), and "
            f"flex_attention on a GPU takes {MIN_FLEX_WIDTH} or more; use sdpa or eager"
        )


@auto_docstring(
    custom_intro="Base class of all CodeShell models: loading, saving, initialisation and flags of supported features."
)
class CodeShellPreTrainedModel(PreTrainedModel):
    config: CodeShellConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CodeShellBlock"]
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": CodeShellBlock, "attentions": CodeShellAttention}
    _input_embed_layer = "wte"
    # Released checkpoints have one copy of the frequencies per layer.
    _keys_to_ignore_on_load_unexpected = [r"attn\.rotary_emb\.inv_freq$"]
    _keeps_output_layer = False
    _embedding_prefix = "transformer."

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: object, **kwargs: object) -> Self:
        """Loads a checkpoint, as in transformers.

        Released safetensors have their tied embedding only as `lm_head.weight`. A model without an output layer would
        keep a random embedding, so that name is mapped to the embedding.
        """
        kwargs.pop("resume_download", None)  # of transformers 4, in the release's demos; downloads always resume
        if not cls._keeps_output_layer and pretrained_model_name_or_path is not None and "key_mapping" not in kwargs:
            config = read_config(pretrained_model_name_or_path, kwargs)
            if config.tie_word_embeddings:
                embedding = f"{cls._embedding_prefix}wte.weight"
                kwargs["key_mapping"] = {r"^lm_head\.weight$": embedding}
        model: Self = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        return model

    def save_pretrained(self, save_directory: str | Path, *args: object, **kwargs: object) -> None:
        """Saves the model as transformers does, and this file beside it, so that it loads with `trust_remote_code`.

        Weights have the model's own names, even if they were loaded under others.
        """
        kwargs.setdefault("save_original_format", False)
        is_pushed = kwargs.pop("push_to_hub", False)
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            # safetensors ignores the umask and lets only the owner read; config.json beside it has the right mode.
            for config in Path(save_directory).glob("config.json"):
                for weights in config.parent.glob("*.safetensors"):
                    weights.chmod(config.stat().st_mode & 0o777)
            for name in (__name__, CodeShellConfig.__module__):
                source = Path(str(sys.modules[name].__file__))
                target = Path(save_directory) / f"{name.rsplit('.', 1)[-1]}.py"
                if source.resolve() != target.resolve():
                    shutil.copyfile(source, target)
        if is_pushed:  # here and not in `super`, so that this file is pushed, too
            asked = {key: kwargs[key] for key in PUSH_ARGUMENTS & kwargs.keys()}
            self.push_to_hub(kwargs.get("repo_id", Path(save_directory).name), **asked)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Marked on the matrix: for classes outside transformers, `_init_weights` is never called on modules without
        # weights of their own, such as the attention that contains it.
        if getattr(module, "writes_residual", False):
            std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            init.normal_(module.weight, mean=0.0, std=std)


@auto_docstring(custom_intro="CodeShell's blocks between the embedding and the final norm.")
class CodeShellModel(CodeShellPreTrainedModel):
    _embedding_prefix = ""

    def __init__(self, config: CodeShellConfig) -> None:
        config.validate_architecture()  # again, since fields may have been set after construction
        super().__init__(config)
        # No padding_idx: the release pads with its end of text, whose embedding must be trained.
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(CodeShellBlock(config, layer_idx) for layer_idx in range(config.num_hidden_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.rotary_emb = CodeShellRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring(
        custom_intro="""Runs the blocks.

        Rows may be packed: where `position_ids` restart or `cu_seq_lens_q` gives lengths, each document attends only
        to itself, with or without a mask of ones, and no cache is made.
        """
    )
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Runs the blocks.

        Args:
            input_ids (`Tensor` of shape (B, T), *optional*):
                Tokens, int64.
            attention_mask (`Tensor` of shape (B, S) or (B, 1, T, S), *optional*):
                0 for padding; S is the number of cached tokens plus T. A mask of four dimensions is used unchanged.
            position_ids (`Tensor` of shape (B, T) or (1, T), *optional*):
                By default, counted from the cache and the mask.
            cache (`Cache`, *optional*):
                Keys and values of earlier tokens.
            inputs_embeds (`Tensor` of shape (B, T, D), *optional*):
                Instead of `input_ids`.
            use_cache (`bool`, *optional*):
                Whether to return a cache. While training, none is made, and one that was given is returned.
            past_key_values (`Cache`, *optional*):
                The name of `cache` before transformers 5.24.
            kwargs (*optional*):
                Arguments of attention, such as `cu_seq_lens_q`, shape (N + 1,), over the concatenated rows.

        Returns:
            `last_hidden_state` of shape (B, T, D), after the final norm, and the cache.

        Raises:
            ValueError: If both or neither of `input_ids` and `inputs_embeds` are given, packed rows come with a cache,
                two different caches are given, or heads are too narrow for FlexAttention on a GPU.
            RuntimeError: If `cu_seq_lens_q`, with all lengths given in training, lacks a document that `position_ids`
                begin; on a GPU an assertion of the device.
            TypeError: If nothing reads a keyword.
        """
        refuse_unknown(kwargs, self.config._attn_implementation or "eager")
        cache = choose_cache(cache, past_key_values)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.wte(input_ids)
        check_flex_heads(self.config, inputs_embeds.device)

        is_paged = is_paged_cache(cache)
        segments, attention_mask = self._separate_documents(inputs_embeds, attention_mask, position_ids, cache, kwargs)
        if use_cache and cache is None and segments is None and not self.training:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = self._count_positions(inputs_embeds, attention_mask, cache, kwargs)
        masks = self._make_masks(inputs_embeds, attention_mask, None if is_paged else cache, segments)
        position_embeddings = self.rotary_emb(inputs_embeds, position_ids=position_ids)

        hidden_states = nn.functional.dropout(inputs_embeds, p=self.config.embd_pdrop, training=self.training)
        for block, layer_type in zip(self.h, self.config.layer_types, strict=False):
            hidden_states = block(
                hidden_states,
                attention_mask=masks[layer_type],
                position_ids=position_ids,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **{CACHE_NAME: cache},  # gradient checkpointing looks for this name
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.ln_f(hidden_states),
            **{CACHE_NAME: cache if use_cache else None},
        )

    @property
    def _takes_lengths(self) -> bool:
        implementation = self.config._attn_implementation or "eager"
        return "flash" in implementation or implementation.startswith("varlen")

    def _count_positions(
        self,
        inputs_embeds: Tensor,
        attention_mask: AttentionMask,
        cache: Cache | None,
        kwargs: TransformersKwargs,
    ) -> Tensor:
        B, T = inputs_embeds.shape[:2]
        cu_seq_lens = kwargs.get("cu_seq_lens_q")
        if cu_seq_lens is not None:
            tokens = torch.arange(B * T, device=inputs_embeds.device, dtype=cu_seq_lens.dtype)
            first = cu_seq_lens[torch.searchsorted(cu_seq_lens, tokens, right=True) - 1]
            return (tokens - first).view(B, T).long()
        if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
            return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -T:].to(inputs_embeds.device)
        seen = cache.get_seq_length() if cache is not None else 0
        return (torch.arange(T, device=inputs_embeds.device) + seen).unsqueeze(0)

    def _separate_documents(
        self,
        inputs_embeds: Tensor,
        attention_mask: AttentionMask,
        position_ids: Tensor | None,
        cache: Cache | None,
        kwargs: TransformersKwargs,
    ) -> tuple[Tensor | None, AttentionMask]:
        """Finds document boundaries in packed rows, and passes them to the attention in use.

        Returns:
            Positions that break at the boundaries, shape (B, T), or `None` if each row is one document; and the
            attention mask that remains to be applied.
        """
        implementation, takes_lengths = self.config._attn_implementation or "eager", self._takes_lengths
        is_ours = takes_lengths or implementation in ("eager", "sdpa", "flex_attention")
        is_ready = attention_mask is not None and (not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2)
        cu_seq_lens = kwargs.get("cu_seq_lens_q")
        B, T = inputs_embeds.shape[:2]
        # Paged caches and serving engines concatenate requests and separate them themselves.
        if not is_ours or is_paged_cache(cache) or is_ready or T == 1:
            return None, attention_mask
        if position_ids is None and cu_seq_lens is None:
            return None, attention_mask

        starts = find_document_starts((B, T), position_ids, attention_mask, cu_seq_lens)
        has_lengths = self.training and takes_lengths and attention_mask is None and cache is None
        has_lengths = has_lengths and all(kwargs.get(name) is not None for name in LENGTHS)
        if torch.compiler.is_compiling():
            # Values cannot be read while compiling: assert within the graph, or always build the mask.
            lacks_lengths = takes_lengths and cu_seq_lens is None
            if cache is not None or lacks_lengths:
                reason = PACKED_WITH_CACHE if cache is not None else PACKED_WITHOUT_LENGTHS
                torch._assert_async(~starts.any(), reason)
                return None, attention_mask
        elif has_lengths:
            # Reading the values would make the host wait for the device.
            given = find_document_starts((B, T), None, None, cu_seq_lens)
            torch._assert_async((given == starts).all(), OTHER_LENGTHS)
        elif not starts.any():
            return None, attention_mask
        elif cache is not None:
            raise ValueError(PACKED_WITH_CACHE)

        if attention_mask is not None:
            attended = attention_mask.to(device=starts.device, dtype=torch.bool)
            starts = starts | (attended[:, 1:] != attended[:, :-1])
        if takes_lengths and not has_lengths and not torch.compiler.is_compiling():
            kwargs.update(self._measure_documents(starts))
        # transformers detects packed rows by steps other than 1; here 1 within a document and 3 at a boundary.
        steps = nn.functional.pad(1 + 2 * starts.long(), (1, 0))
        return steps.cumsum(-1), None

    @staticmethod
    def _measure_documents(starts: Tensor) -> dict[str, Tensor | int]:
        is_first = nn.functional.pad(starts, (1, 0), value=True).flatten()  # each row starts a document
        end = torch.tensor([is_first.numel()], device=starts.device)
        cu_seq_lens = torch.cat((is_first.nonzero().squeeze(1), end)).to(torch.int32)
        longest = int(cu_seq_lens.diff().max())
        return {
            "cu_seq_lens_q": cu_seq_lens,
            "cu_seq_lens_k": cu_seq_lens,
            "max_length_q": longest,
            "max_length_k": longest,
        }

    def _make_masks(
        self,
        inputs_embeds: Tensor,
        attention_mask: AttentionMask,
        cache: Cache | None,
        segments: Tensor | None,
    ) -> dict[str, LayerMask]:
        if isinstance(attention_mask, dict):
            return attention_mask
        mask_function = ALL_MASK_ATTENTION_FUNCTIONS.get(self.config._attn_implementation or "eager")
        if self.training and attention_mask is None and cache is None and mask_function is flash_attention_mask:
            # No mask is needed; transformers' functions find that out by reading values, for which the host waits.
            return dict.fromkeys(self.config.layer_types, None)
        given = {
            "config": self.config,
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            CACHE_NAME: cache,
            "position_ids": segments,
        }
        makers = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
        return {name: make(**given) for name, make in makers.items() if name in self.config.layer_types}


class StopAtTexts(StoppingCriteria):
    """Stops once the new text of a single row contains one of some texts, or generation is cancelled."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_tokens: int, texts: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.prompt_tokens = prompt_tokens
        self.texts = texts
        # A token is at least one byte, so this many last tokens hold the longest text; 4 more for split characters.
        self.tail = max(len(text.encode()) for text in texts) + 4
        self.cancelled = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        new = self.tokenizer.decode(input_ids[0, self.prompt_tokens :][-self.tail :])
        is_done = self.cancelled.is_set() or any(text in new for text in self.texts)
        return torch.full((len(input_ids),), is_done, device=input_ids.device)


class AnswerStreamer(BaseStreamer):
    """Gathers the tokens of a single row, and queues its text as it grows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.texts: SimpleQueue[str | Exception | None] = SimpleQueue()
        self._ids: list[int] = []
        self._is_prompt = True
        self._last = ""

    def put(self, value: Tensor) -> None:
        """Takes new tokens, shape (T,) or (1, T); the first ones are the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += value.flatten().tolist()
        text = self.tokenizer.decode(self._ids, skip_special_tokens=True)
        # A character may end in a later token.
        if not text.endswith("\ufffd"):
            self._pass_on(text)

    def end(self) -> None:
        """Queues the complete text, if it grew, and the end."""
        self._pass_on(self.tokenizer.decode(self._ids, skip_special_tokens=True))
        self.texts.put(None)

    def _pass_on(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self.texts.put(text)


@auto_docstring(custom_intro="CodeShell with an output layer, which by default is tied to the embedding.")
class CodeShellForCausalLM(CodeShellPreTrainedModel, GenerationMixin):
    _keeps_output_layer = True
    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: CodeShellConfig) -> None:
        super().__init__(config)
        self.transformer = CodeShellModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: object, **kwargs: object) -> Self:
        """Loads a checkpoint, as in transformers; a release in 4 bits stays in 4 bits, without bitsandbytes."""
        name = pretrained_model_name_or_path
        is_given = kwargs.get("state_dict") is not None or "quantization_config" in kwargs
        is_whole = cls is CodeShellForCausalLM and name is not None and not is_given
        if is_whole and is_four_bits(name, read_config(name, kwargs)):
            return CodeShell4bitForCausalLM.from_pretrained(name, *args, **kwargs)
        model: Self = super().from_pretrained(name, *args, **kwargs)
        return model

    def build_chat_input(
        self,
        query: str,
        history: Sequence[tuple[str, str]] | None,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int | None = None,
    ) -> Tensor:
        """Encodes a question after earlier turns, as the release does.

        Special tokens in questions and answers are ordinary text; in the release they are live.

        Args:
            query: The question.
            history: Earlier questions and answers.
            tokenizer: Of the model.
            max_new_tokens: Room for the answer; the generation config's by default, or else 128. The oldest tokens
                that do not fit beside it are cut off.

        Returns:
            Tokens, shape (1, T), on the model's device.

        Raises:
            ValueError: If there is no room beside the answer.
        """
        turns = [
            f"{USER}{question}{END_OF_TURN}{ASSISTANT} {answer}{END_OF_TURN}" for question, answer in history or ()
        ]
        text = f"{''.join(turns)}{USER}{query}{END_OF_TURN}{ASSISTANT}"
        ids = tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        return self._cut_left(ids, max_new_tokens or self.generation_config.max_new_tokens)

    def chat(
        self,
        query: str,
        history: Sequence[tuple[str, str]] | None,
        tokenizer: PreTrainedTokenizerBase,
        stream: bool = False,
        generation_config: GenerationConfig | None = None,
    ) -> str | Iterator[str]:
        """Answers a question, as the release's `chat` does.

        Args:
            query: The question.
            history: Earlier questions and answers.
            tokenizer: Of the model.
            stream: Whether to return an iterator over the answer's text as it grows.
            generation_config: By default the model's.

        Returns:
            The text that the model generated up to and with the stop, which is `|<end>|` for most models.
        """
        config = generation_config or self.generation_config
        prompt = self.build_chat_input(query, history, tokenizer, config.max_new_tokens)
        if stream:
            return self._stream(prompt, tokenizer, config, {})
        stop = StopAtTexts(tokenizer, prompt.shape[1], CHAT_STOPS)
        ids = self._generate_up_to(stop, prompt, config, {})
        text: str = tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
        return text

    def generate_stream(
        self,
        prompt: str,
        tokenizer: PreTrainedTokenizerBase,
        generation_config: GenerationConfig | None = None,
        **kwargs: object,
    ) -> Iterator[str]:
        """Continues a text, in which special tokens are live, and returns an iterator over what is new as it grows.

        Args:
            prompt: The text; the oldest tokens that do not fit are cut off.
            tokenizer: Of the model.
            generation_config: By default the model's.
            kwargs: Further arguments of `generate`.
        """
        config = generation_config or self.generation_config
        asked = kwargs.get("max_new_tokens")
        ids = tokenizer(prompt, verbose=False)["input_ids"]
        room = asked if isinstance(asked, int) else config.max_new_tokens
        return self._stream(self._cut_left(ids, room), tokenizer, config, kwargs)

    def _cut_left(self, ids: Sequence[int], max_new_tokens: int | None) -> Tensor:
        room = self.config.max_position_embeddings - (max_new_tokens or ANSWER_TOKENS)
        if room < 1:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens or ANSWER_TOKENS}, which leaves nothing of "
                f"{self.config.max_position_embeddings} positions for the prompt; set a smaller one"
            )
        return torch.tensor([ids[-room:]], dtype=torch.long, device=self.device)

    def _generate_up_to(
        self, stop: StopAtTexts, prompt: Tensor, options: GenerationConfig, arguments: Mapping[str, object]
    ) -> Tensor:
        if options.max_new_tokens is None:
            options = copy.deepcopy(options)
            options.max_new_tokens = ANSWER_TOKENS
        ids: Tensor = self.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=options,
            stopping_criteria=StoppingCriteriaList([stop]),
            **arguments,
        )
        return ids

    def _stream(
        self,
        prompt: Tensor,
        tokenizer: PreTrainedTokenizerBase,
        options: GenerationConfig,
        arguments: Mapping[str, object],
    ) -> Iterator[str]:
        """Generates in a thread; closing the iterator ends it."""
        streamer, stop = AnswerStreamer(tokenizer), StopAtTexts(tokenizer, prompt.shape[1], CHAT_STOPS)

        def work() -> None:
            try:
                self._generate_up_to(stop, prompt, options, {**arguments, "streamer": streamer})
            except Exception as error:  # raised again where the text is read
                streamer.texts.put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def read() -> Iterator[str]:
            try:
                while (text := streamer.texts.get()) is not None:
                    if isinstance(text, Exception):
                        raise text
                    yield text
            finally:
                stop.cancelled.set()
                thread.join()

        return read()

    @can_return_tuple
    @auto_docstring(custom_intro="Computes logits and, with labels, the loss.")
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Computes logits and, with labels, the loss.

        Args:
            cache (`Cache`, *optional*):
                Keys and values of earlier tokens; this and the other arguments are as in `CodeShellModel.forward`.
            labels (`Tensor` of shape (B, T), *optional*):
                Aligned with `input_ids` (not shifted), int64; -100 is ignored.
            logits_to_keep (`int` or `Tensor`, *optional*):
                Number of last positions that get logits, 0 for all; or the positions themselves.
            past_key_values (`Cache`, *optional*):
                The name of `cache` before transformers 5.24.
            kwargs (*optional*):
                Arguments of attention and the loss, such as `num_items_in_batch`: the number of labels in all
                micro-batches of a step, by which the summed loss is divided.

        Returns:
            `loss`, a scalar in float32, and `logits` of shape (B, T, V).
        """
        outputs: BaseModelOutputWithPast = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=choose_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(keep_positions(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class QuantState(NamedTuple):
    """How codes are dequantised; `absmax` is the scale of each block, `table` of shape (16,) the value of each code."""

    absmax: Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype
    block_size: int
    table: Tensor


def read_state(state: object, name: str) -> QuantState:
    """Parses bitsandbytes 0.4x's list for the matrix `name`, and dequantises nested scales.

    The list is `[absmax, shape, dtype, blocksize, nested, kind, table]`: nested is None or `[offset, [absmax, table,
    blocksize, ...]]`, the kind "nf4" or "fp4", and the table absent in some.

    Raises:
        ValueError: If it is not such a list.
    """
    if not isinstance(state, Sequence) or len(state) < 6 or not isinstance(state[0], Tensor):
        raise ValueError(f"{name}{STATE} is not a state of bitsandbytes 0.4x; use unquantised weights")
    absmax, shape, dtype, block_size, nested, kind, *rest = state
    tables = [item for item in rest if isinstance(item, Tensor) and item.numel() == 16]
    if not isinstance(dtype, torch.dtype) or not isinstance(block_size, int) or kind not in ("nf4", "fp4"):
        raise ValueError(f"{name}{STATE} says {kind!r} in blocks of {block_size!r}; use nf4 or fp4")
    if nested is not None:
        offset, (inner, table, inner_size, *_) = nested
        inner_scales = inner.float().repeat_interleave(inner_size)[: absmax.numel()]
        absmax = table.float()[absmax.reshape(-1).int()] * inner_scales + offset
    table = tables[0] if tables else torch.tensor(NF4 if kind == "nf4" else FP4)
    return QuantState(absmax.reshape(-1).float(), tuple(shape), dtype, block_size, table.float())


def check_size(codes: Tensor, state: QuantState) -> None:
    """Raises `ValueError` if there are too few codes or scales for a state's shape."""
    count = math.prod(state.shape)
    blocks = -(-count // state.block_size)
    if codes.dtype != torch.uint8 or 2 * codes.numel() < count or state.absmax.numel() < blocks:
        raise ValueError(
            f"{codes.numel()} bytes in {state.absmax.numel()} blocks are too few for {tuple(state.shape)}; "
            "download it again"
        )


def dequantize(codes: Tensor, state: QuantState) -> Tensor:
    """Dequantises codes (two per byte, the first in the upper half) to a matrix of the state's shape and dtype.

    Raises:
        ValueError: If there are too few codes for the shape.
    """
    check_size(codes, state)
    count, packed = math.prod(state.shape), codes.reshape(-1)
    # The values of both codes of each byte, so that each byte is looked up once.
    bytes_ = torch.arange(256, device=packed.device)
    pairs = torch.stack((state.table[bytes_ >> 4], state.table[bytes_ & 15]), dim=1)
    values = nn.functional.embedding(packed.int(), pairs).reshape(-1)[:count]
    scales = state.absmax.repeat_interleave(state.block_size)[:count]
    return (values * scales).reshape(state.shape).to(state.dtype)


def read_pickled(name: str | Path, arguments: Mapping[str, Any]) -> dict[str, object]:
    """Reads a checkpoint's single pickle without running code of it: only tensors and plain values are built.

    Args:
        name: A folder or a Hub repository.
        arguments: Of `from_pretrained`; those of the Hub are used.

    Raises:
        ValueError: If it would run code, or cannot be read.
        OSError: If there is none.
    """
    asked = {key: arguments[key] for key in HUB_ARGUMENTS & arguments.keys()}
    path = Path(str(cached_file(name, PICKLED, **asked)))
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"  # files of older torch cannot be memory-mapped
    try:
        entries = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be read ({reason}); download it again") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} has a {type(entries).__name__} and not tensors by name; download it again")
    return entries


def is_four_bits(name: str | Path, config: PreTrainedConfig) -> bool:
    """Whether a checkpoint is a release in 4 bits, by its configuration or, in a folder, by its weights."""
    if "CodeShell4bitForCausalLM" in (config.architectures or ()):
        return not list(Path(name).glob("*.safetensors*"))
    files = {path.name for path in Path(name).glob("*model*")}
    if PICKLED not in files or any(".safetensors" in file for file in files):
        return False
    try:
        return any(entry.endswith(STATE) for entry in read_pickled(name, {}))
    except ValueError:  # transformers says what is wrong with it
        return False


class FourBitLinear(nn.Module):
    """A linear layer whose matrix stays in 4 bits, and is dequantised where it is used.

    Scales and table are stored as bits in int32, since `.half()` and `.to(dtype)` would round floats.
    """

    def __init__(self, codes: Tensor, state: QuantState, bias: Tensor | None) -> None:
        super().__init__()
        check_size(codes, state)
        self.out_features, self.in_features = state.shape
        self.block_size, self.dtype = state.block_size, state.dtype
        self.codes = nn.Buffer(codes.reshape(-1))
        self.scale_bits = nn.Buffer(state.absmax.contiguous().view(torch.int32))
        self.table_bits = nn.Buffer(state.table.contiguous().view(torch.int32))
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The dequantised matrix, made anew at each use."""
        scales, table = self.scale_bits.view(torch.float32), self.table_bits.view(torch.float32)
        shape = (self.out_features, self.in_features)
        return dequantize(self.codes, QuantState(scales, shape, self.dtype, self.block_size, table))

    def forward(self, hidden_states: Tensor) -> Tensor:
        return nn.functional.linear(hidden_states, self.weight.to(hidden_states.dtype), self.bias)


@auto_docstring(
    custom_intro="""
    CodeShell from a release in 4 bits, which stays so in memory, on any device.

    `from_pretrained` of `CodeShellForCausalLM` returns one for such a release. `save_pretrained` writes a plain
    checkpoint in the dtype of the embedding.
    """
)
class CodeShell4bitForCausalLM(CodeShellForCausalLM):
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: object, **kwargs: Any) -> Any:
        """Loads a release whose pickle has codes and bitsandbytes' states, without running code of the pickle.

        Args:
            pretrained_model_name_or_path: A folder or a Hub repository.
            args: None.
            kwargs: `config`, `dtype`, `device_map` with one device or "auto", `attn_implementation`,
                `output_loading_info` and those of the Hub, as in transformers.

        Raises:
            ValueError: If the pickle would run code, lacks weights, or has them in other shapes.
            TypeError: For arguments that would have no effect.
        """
        name = pretrained_model_name_or_path
        known = {"config", "dtype", "torch_dtype", "device_map", "attn_implementation", "output_loading_info"}
        unknown = {key for key in kwargs if not key.startswith("_")} - known - HUB_ARGUMENTS - IDLE_ARGUMENTS
        if args or unknown or name is None:
            raise TypeError(f"a release in 4 bits is loaded without {sorted(unknown) or args}; leave it out")
        config = copy.deepcopy(read_config(name, kwargs))
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        if kwargs.get("attn_implementation") is not None:
            config._attn_implementation = kwargs["attn_implementation"]
        dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
        dtype = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
        with torch.device("meta"):
            model = cls(config)
        model.transformer.rotary_emb = CodeShellRotaryEmbedding(config)
        model._take(read_pickled(name, kwargs), dtype if isinstance(dtype, torch.dtype) else None, str(name))
        model.eval()
        asked = {key: kwargs[key] for key in HUB_ARGUMENTS & kwargs.keys()}
        try:
            model.generation_config = GenerationConfig.from_pretrained(name, **asked)
        except OSError:
            logger.info("the release has no generation config; it is made from the model's")
        place = kwargs.get("device_map")
        if isinstance(place, dict):
            place = next(iter(place.values()), None)
        if place == "auto":
            place = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        model = model if place is None else model.to(place)
        if kwargs.get("output_loading_info"):
            report = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
            return model, {key: set() for key in report}
        return model

    def _take(self, entries: Mapping[str, object], dtype: torch.dtype | None, name: str) -> None:
        """Takes a release's entries; `dtype` is that of embedding, norms and biases, `None` for the release's."""
        for key in [entry.removesuffix(CODES) for entry in entries if entry.endswith(CODES)]:
            place = key.removesuffix(".weight")
            try:
                linear = self.get_submodule(place)
            except AttributeError as error:
                raise ValueError(f"{name} has {key}, which the model lacks; name a CodeShell checkpoint") from error
            state, codes = read_state(entries.get(key + STATE), key), entries[key + CODES]
            if not isinstance(codes, Tensor) or state.shape != tuple(linear.weight.shape):
                raise ValueError(f"{name}: {key} is {state.shape}, the configuration says {tuple(linear.weight.shape)}")
            self.set_submodule(place, FourBitLinear(codes, state, linear.bias))
        plain = {
            key: value.to(dtype) if dtype is not None else value
            for key, value in entries.items()
            if isinstance(value, Tensor) and not key.endswith(CODES)
        }
        shared = {"transformer.wte.weight", "lm_head.weight"}
        if self.config.tie_word_embeddings and (found := shared & plain.keys()):
            plain |= dict.fromkeys(shared, plain[min(found)])
        try:
            missing = self.load_state_dict(plain, strict=False, assign=True).missing_keys
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"{name} has other shapes than its config.json says ({reason})") from error
        if missing := [key for key in missing if not key.endswith((".codes", "_bits"))]:
            raise ValueError(f"{name} lacks {missing[0]}; name a complete checkpoint")
        self.tie_weights()

    def dequantize(self) -> CodeShellForCausalLM:
        """A plain model, in the dtype of the embedding."""
        dtype = self.transformer.wte.weight.dtype
        state = {key: value for key, value in self.state_dict().items() if not key.endswith((".codes", "_bits"))}
        for key, module in self.named_modules():
            if isinstance(module, FourBitLinear):
                state[f"{key}.weight"] = module.weight.to(dtype)
        config = copy.deepcopy(self.config)
        model = CodeShellForCausalLM.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
        model.generation_config = copy.deepcopy(self.generation_config)
        return model

    def save_pretrained(self, save_directory: str | Path, *args: object, **kwargs: object) -> None:
        """Saves the dequantised model, which every version of transformers can read."""
        self.dequantize().save_pretrained(save_directory, *args, **kwargs)


# The generic heads make their backbone with AutoModel, which does not know copies of this file that were loaded from a
# folder, and name it "model". So each head here makes its own.


class CodeShellForSequenceClassification(GenericForSequenceClassification, CodeShellPreTrainedModel):
    """CodeShell with a score from the last token that is not padding; TRL's reward models use this class."""

    base_model_prefix = "transformer"

    def __init__(self, config: CodeShellConfig) -> None:
        CodeShellPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.transformer = CodeShellModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()


class CodeShellForTokenClassification(GenericForTokenClassification, CodeShellPreTrainedModel):
    """CodeShell with scores for each token."""

    base_model_prefix = "transformer"

    def __init__(self, config: CodeShellConfig) -> None:
        CodeShellPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.transformer = CodeShellModel(config)
        self.dropout = nn.Dropout(getattr(config, "classifier_dropout", None) or 0.0)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class CodeShellForQuestionAnswering(GenericForQuestionAnswering, CodeShellPreTrainedModel):
    """CodeShell with scores for the first and the last token of an answer."""

    base_model_prefix = "transformer"

    def __init__(self, config: CodeShellConfig) -> None:
        CodeShellPreTrainedModel.__init__(self, config)
        self.transformer = CodeShellModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, of shape (V, D)."""
        return self.transformer.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embedding, of shape (V, D)."""
        self.transformer.wte = value


__all__ = [
    "CodeShell4bitForCausalLM",
    "CodeShellForCausalLM",
    "CodeShellForQuestionAnswering",
    "CodeShellForSequenceClassification",
    "CodeShellForTokenClassification",
    "CodeShellModel",
    "CodeShellPreTrainedModel",
]
