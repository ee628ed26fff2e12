"""Exports a model and its tokenizer as one GGUF file for llama.cpp."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

from ..configuration_codeshell import SLIDING, CodeShellConfig
from ..errors import CheckpointError, DataError, RunFailed, SettingsError
from ..manifest import Values
from ..settings import unknown_key
from ..text.pre_tokenizers import SPLITS, name_split
from ..tokenization_codeshell import CodeShellTokenizer
from .tensors import Tensors

TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""What this module writes. The embedding and the output layer of "q4_0" are Q8_0: rounding costs most there."""

LLAMA_TYPES = {"q4_k_m": "Q4_K_M", "q5_k_m": "Q5_K_M", "q6_k": "Q6_K"}
"""What llama.cpp's own `llama-quantize` makes of an F16 file."""

QUANTIZE_PROGRAM = "llama-quantize"
_BLOCKED = frozenset({GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0})
_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_BLOCK = re.compile(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)")
_TRAINING_TAGS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def export_gguf(
    folder: Path,
    path: Path,
    kind: str,
    *,
    name: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Writes a folder as a GGUF file, one tensor at a time; the file appears once it is complete.

    Args:
        folder: A CodeShell model with its tokenizer, released or made with this package.
        path: The file.
        kind: Type of the matrices, a key of `TYPES`. Biases and norms stay F32.
        name: The model's name in the file; by default the folder's.
        on_progress: Called with the tensors done and their total.

    Returns:
        `tensors`, `bytes` and `parameters`.

    Raises:
        SettingsError: If the kind is unknown.
        CheckpointError: If llama.cpp would compute something else, or weights are missing.
        DataError: If llama.cpp would split text differently, or the file cannot be written.
    """
    if kind not in TYPES:
        raise SettingsError(unknown_key(kind, TYPES, "in type"))
    try:
        config = CodeShellConfig.from_pretrained(folder)
        tokenizer = CodeShellTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers, tokenizers and JSON each raise their own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} cannot be read ({reason}); name a folder with model and tokenizer") from error
    check_architecture(config, folder)
    tensors = Tensors(folder)
    if any(key.endswith(".quant_state") for key in tensors):
        raise CheckpointError(f"{folder} holds 4-bit weights; run codeshell convert {folder} first")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    writer = GGUFWriter(partial, "codeshell")
    _add_architecture(writer, config, name or folder.resolve().name, TYPES[kind][1])
    _add_tokenizer(writer, tokenizer, config, folder)
    planned = list(_plan(config, tensors, TYPES[kind][0]))
    for target, _, shape, type_ in planned:
        is_packed = type_ in _BLOCKED or type_ == GGMLQuantizationType.BF16
        byte_shape = gguf.quant_shape_to_byte_shape(shape, type_) if is_packed else shape
        itemsize = {GGMLQuantizationType.F32: 4, GGMLQuantizationType.F16: 2}.get(type_, 1)
        size = int(np.prod(byte_shape)) * itemsize
        writer.add_tensor_info(target, shape, np.dtype(np.float32), size, raw_dtype=type_)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for index, (_, source, _, type_) in enumerate(planned):
            writer.write_tensor_data(_convert(tensors.get(source), type_))
            on_progress(index + 1, len(planned))
        writer.close()
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); free space, or name another file") from error
    finally:
        partial.unlink(missing_ok=True)
    parameters = sum(int(np.prod(shape)) for _, _, shape, _ in planned)
    return {"tensors": len(planned), "bytes": path.stat().st_size, "parameters": parameters}


def export_by_llama_cpp(
    folder: Path,
    path: Path,
    kind: str,
    *,
    name: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Writes a folder as a GGUF file of a type that only llama.cpp's own program makes; arguments of `export_gguf`.

    Args:
        folder: A CodeShell model with its tokenizer.
        path: The file.
        kind: A key of `LLAMA_TYPES`.
        name: The model's name in the file.
        on_progress: Called with the tensors of the F16 file that are done, and their total.

    Raises:
        SettingsError: If the program is not installed.
        RunFailed: If it fails.
    """
    program = shutil.which(QUANTIZE_PROGRAM)
    if program is None:
        raise SettingsError(
            f"{kind} is made by llama.cpp's {QUANTIZE_PROGRAM}, which is not on the PATH; install it, or use q4_0"
        )
    whole, partial = path.with_name(f"{path.name}.f16"), path.with_name(f"{path.name}.partial")
    try:
        counts = export_gguf(folder, whole, "f16", name=name or folder.resolve().name, on_progress=on_progress)
        command = [program, str(whole), str(partial), LLAMA_TYPES[kind]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not partial.exists():
            reason = " ".join((done.stderr or done.stdout).split())[-160:]
            raise RunFailed(f"{QUANTIZE_PROGRAM} failed with {done.returncode} ({reason})")
        partial.replace(path)
    finally:
        whole.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return {**counts, "bytes": path.stat().st_size}


def check_architecture(config: CodeShellConfig, folder: Path) -> None:
    """Raises `CheckpointError` for architectures that llama.cpp's CodeShell graph does not support."""
    rope_type = (config.rope_parameters or {}).get("rope_type")
    # llama.cpp's converter writes constants for MLP width, rope base and scaling, but its graph reads them from the
    # file, so other values work if they are written.
    differences = {
        f"rope_type is {rope_type!r}, llama.cpp has 'default' and 'linear'": rope_type not in ("default", "linear"),
        f"activation_function is {config.activation_function!r}, llama.cpp has GELU": config.activation_function
        not in ("gelu_pytorch_tanh", "gelu_new"),
        "some layers have a sliding window, llama.cpp attends to everything": SLIDING in (config.layer_types or []),
    }
    for difference, is_there in differences.items():
        if is_there:
            raise CheckpointError(
                f"{folder}: {difference}, so its answers would differ; serve it with transformers or vLLM"
            )


def _add_architecture(writer: GGUFWriter, config: CodeShellConfig, name: str, file_type: LlamaFileType) -> None:
    writer.add_name(name)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.num_query_groups or config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_rope_dimension_count(config.n_embd // config.n_head)
    rope = config.rope_parameters or {}
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: GGUFWriter, tokenizer: CodeShellTokenizer, config: CodeShellConfig, folder: Path) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    split = _name_split(described, folder)
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    if max(texts) >= config.vocab_size:
        raise DataError(f"{folder}: the tokenizer has {max(texts) + 1} entries, the model {config.vocab_size} rows")
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = set(tokenizer.added_tokens_decoder)
    kinds = {True: TokenType.CONTROL, False: TokenType.USER_DEFINED}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    # The model may have more rows than the tokenizer has entries; llama.cpp needs a text for each.
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(config.vocab_size)])
    writer.add_token_types(
        [
            (kinds[number in special] if number in added else TokenType.NORMAL) if number in texts else TokenType.UNUSED
            for number in range(config.vocab_size)
        ]
    )
    merges = described["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    end = tokenizer.eos_token_id
    if end is not None:
        writer.add_bos_token_id(end)
        writer.add_eos_token_id(end)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(value=False)
    vocabulary = tokenizer.get_vocab()
    for part, key in (("prefix", "fim_pre"), ("suffix", "fim_suf"), ("middle", "fim_mid"), ("pad", "fim_pad")):
        if (number := vocabulary.get(f"<fim_{part}>")) is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", number)
    if isinstance(tokenizer.chat_template, str):
        # These tags mark the assistant's turns for training; llama.cpp's template engine does not support them.
        writer.add_chat_template(_TRAINING_TAGS.sub("", tokenizer.chat_template))


def _name_split(described: Values, folder: Path) -> str:
    """llama.cpp's name of the tokenizer's split."""
    split = name_split(described.get("pre_tokenizer"))
    name = SPLITS[split].llama_cpp if split is not None else None
    if name is None or described["model"].get("type") != "BPE" or described.get("normalizer") is not None:
        raise DataError(
            f"{folder}: llama.cpp has byte-level BPE with StarCoder's split, and GPT-4's with single digits, and "
            "this tokenizer splits text differently; serve it with transformers or vLLM"
        )
    return name


def _plan(
    config: CodeShellConfig, tensors: Tensors, kind: GGMLQuantizationType
) -> Iterator[tuple[str, str, tuple[int, ...], GGMLQuantizationType]]:
    """Each tensor of the file: its name there and in the folder, shape and type."""
    for source, shape in list_parameters(config).items():
        found = source
        if config.tie_word_embeddings and source not in tensors:
            found = {"lm_head.weight": "transformer.wte.weight", "transformer.wte.weight": "lm_head.weight"}[source]
        actual = tuple(tensors.get(found).shape)
        if actual != shape:
            raise CheckpointError(f"{tensors.folder}: {found} is {actual}, the configuration says {shape}")
        type_ = kind if len(shape) > 1 else GGMLQuantizationType.F32
        if type_ == GGMLQuantizationType.Q4_0 and source in ("transformer.wte.weight", "lm_head.weight"):
            type_ = GGMLQuantizationType.Q8_0
        if type_ in _BLOCKED and shape[-1] % 32:
            raise CheckpointError(
                f"{source} has rows of {shape[-1]}, which {type_.name}'s blocks of 32 do not divide; use f16"
            )
        yield rename(source), found, shape, type_


def list_parameters(config: CodeShellConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, in the order of a GGUF file.

    Tied embeddings are written twice. llama.cpp could share one, but it fails where it packs matrices for AMX and one
    is used for both lookup and multiplication.
    """
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    groups = config.num_query_groups or config.n_head
    query_key_value = width + 2 * groups * (width // config.n_head)
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (config.vocab_size, width)}
    for layer in range(config.n_layer):
        for part, out, into in (
            ("ln_1", width, None),
            ("attn.c_attn", query_key_value, width),
            ("attn.c_proj", width, width),
            ("ln_2", width, None),
            ("mlp.c_fc", inner, width),
            ("mlp.c_proj", width, inner),
        ):
            shapes[f"transformer.h.{layer}.{part}.weight"] = (out,) if into is None else (out, into)
            shapes[f"transformer.h.{layer}.{part}.bias"] = (out,)
    shapes |= {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}
    shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes


def rename(name: str) -> str:
    """llama.cpp's name of a checkpoint's parameter.

    >>> rename("transformer.h.3.attn.c_attn.bias")
    'blk.3.attn_qkv.bias'
    """
    if found := _BLOCK.fullmatch(name):
        return f"blk.{found[1]}.{_NAMES[found[2]]}.{found[3]}"
    module, kind = name.rsplit(".", 1)
    return f"{_NAMES[module]}.{kind}"


def _convert(tensor: torch.Tensor, type_: GGMLQuantizationType) -> npt.NDArray[np.generic]:
    values = tensor.detach().to(torch.float32).contiguous().numpy()
    if type_ == GGMLQuantizationType.F32:
        return values
    if type_ == GGMLQuantizationType.F16:
        return values.astype(np.float16)
    quantized: npt.NDArray[np.generic] = gguf.quants.quantize(values, type_)
    return quantized
