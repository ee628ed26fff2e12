"""Matrix products of the blocks in 8-bit floating point, by torchao.

Weights stay what they are; each product rounds its two factors to 8 bits, with scales from their largest numbers.
Embedding, output layer and attention are left out.
"""

from dataclasses import replace

import torch

from ..errors import SettingsError
from ..modeling_codeshell import CodeShellForCausalLM
from .settings import Fp8Scaling

CAPABILITY = (8, 9)  # of the first GPUs with such products: Ada; Hopper is 9.0


def is_emulated(device: torch.device) -> bool:
    """Whether a device can only imitate the rounding, by slower products in 16 or 32 bits."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY


def convert_blocks(model: CodeShellForCausalLM, scaling: Fp8Scaling, device: torch.device) -> None:
    """Replaces the blocks' linear layers in place by torchao's; parameters keep names and values.

    Args:
        scaling: One scale for a matrix (`tensorwise`, faster) or for each row (`rowwise`, more exact).
        device: Where the products will be computed.

    Raises:
        SettingsError: If torchao is missing.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise SettingsError(
            f'fp8 is {scaling}, which needs torchao; pip install "codeshell-hf[quantization]" or set fp8: null'
        ) from error
    # The gradient of a weight sums over tokens, of which any number is allowed if it is padded.
    config = replace(Float8LinearConfig.from_recipe_name(scaling), emulate=is_emulated(device), pad_inner_dim=True)
    for block in model.transformer.h:
        convert_to_float8_training(block, config=config)
