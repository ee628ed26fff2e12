"""Matrix products of the blocks in 8-bit floating point, by torchao.

Weights stay what they are; each product rounds its two factors to 8 bits, with scales from their largest numbers.
Embedding, output layer and attention are left out.
"""

from dataclasses import replace

import torch
from torch import nn

from ..errors import SettingsError
from ..modeling_codeshell import CodeShellForCausalLM
from .settings import Fp8Scaling
from .sharding import Sharding

MULTIPLE = 16  # of a matrix's sides, which the kernels need
CAPABILITY = (8, 9)  # of the first GPUs with such products: Ada; Hopper is 9.0


def is_emulated(device: torch.device) -> bool:
    """Whether a device can only imitate the rounding, by slower products in 16 or 32 bits."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY


def convert_blocks(model: CodeShellForCausalLM, scaling: Fp8Scaling, sharding: Sharding, device: torch.device) -> None:
    """Replaces the blocks' linear layers in place by torchao's; parameters keep names and values.

    Args:
        scaling: One scale for a matrix (`tensorwise`, faster) or for each row (`rowwise`, more exact).
        device: Where the products will be computed.

    Raises:
        SettingsError: If torchao is missing, or the model or its sharding do not allow it.
    """
    if sharding.kind == "zero" or sharding.tensor > 1:
        raise SettingsError(
            f"fp8 is {scaling}, which {sharding} does not support; shard with fsdp2.yaml or set fp8: null"
        )
    for name, layer in model.transformer.h[0].named_modules():
        if isinstance(layer, nn.Linear) and (layer.in_features % MULTIPLE or layer.out_features % MULTIPLE):
            raise SettingsError(
                f"fp8 is {scaling}, but {name} has {layer.in_features} inputs and {layer.out_features} outputs, which "
                f"are no multiples of {MULTIPLE}; change the model's widths or set fp8: null"
            )
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise SettingsError(
            f'fp8 is {scaling}, which needs torchao; pip install "codeshell-hf[quantization]" or set fp8: null'
        ) from error
    config = replace(Float8LinearConfig.from_recipe_name(scaling), emulate=is_emulated(device))
    for block in model.transformer.h:
        convert_to_float8_training(block, config=config)
