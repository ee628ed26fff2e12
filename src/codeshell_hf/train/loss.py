"""The training loss, from hidden states straight to a number: logits of all positions are never held together."""

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..configuration_codeshell import CodeShellConfig
from ..modeling_codeshell import CodeShellForCausalLM

# Logits of at most so many numbers are held at once: 512 MiB in float32. Every chunk reads the output layer and adds to
# its gradient, so that small chunks wait for memory; larger ones than this gain nothing more.
HELD_LOGITS = 1 << 27
TILE = 128  # positions; a chunk of another size leaves tiles of the matrix product half empty
OUTPUTS = 8192  # whose gradients are added at a time, where a product cannot add to float32
CPU_POSITIONS = 512  # a chunk's on a CPU, near its caches, where the layer is no wider
IGNORED = -100


class _Context(Protocol):
    weight_dtype: torch.dtype

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear layer's outputs, some positions at a time.

    Gradients are computed in the forward pass, while a chunk's logits are held, so the backward pass multiplies by one
    number. Products are in the dtype of autocast, sums in float32.

    Source:
        The order of work is that of Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2.
    """

    @staticmethod
    def forward(ctx: _Context, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int) -> Tensor:
        """Sums the losses, and keeps the gradients.

        Args:
            ctx: Torch's.
            hidden: Shape (N, D), floating.
            weight: Shape (V, D), floating.
            labels: Shape (N,), int64.
            chunk: Positions at a time.

        Returns:
            A scalar, float32.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False), torch.no_grad():
            matrix = weight.to(dtype)
            total = torch.zeros((), device=hidden.device)
            hidden_gradient = torch.empty_like(hidden, dtype=dtype)
            weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
            # Filled again by each chunk: on a CPU, large blocks that come and go cost more than what is done in them.
            logits = torch.empty(min(chunk, len(hidden)), len(weight), dtype=dtype, device=hidden.device)
            exact = torch.empty_like(logits, dtype=torch.float32)
            for start in range(0, len(hidden), chunk):
                part, expected = hidden[start : start + chunk].to(dtype), labels[start : start + chunk, None]
                some, log_probabilities = logits[: len(part)], exact[: len(part)]
                torch.mm(part, matrix.T, out=some)
                _log_softmax(some, out=log_probabilities)
                right = log_probabilities.gather(1, expected)
                total -= right.sum()
                gradient = _to_gradient(some, log_probabilities, right, expected)
                torch.mm(gradient, matrix, out=hidden_gradient[start : start + chunk])
                _add_product(weight_gradient, gradient, part)
            hidden_gradient = hidden_gradient.to(hidden.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of `hidden` and `weight`: those of the forward pass, times that of the sum."""
        hidden, weight = ctx.saved_tensors
        (scale,) = gradients
        return hidden * scale.to(hidden.dtype), (weight * scale).to(ctx.weight_dtype), None, None


def _log_softmax(logits: Tensor, *, out: Tensor) -> None:
    if out.device.type == "cpu":  # in place: another conversion costs as much as the rest
        torch.log_softmax(out.copy_(logits), -1, out=out)
    else:
        torch.log_softmax(logits, -1, dtype=torch.float32, out=out)


def _to_gradient(logits: Tensor, log_probabilities: Tensor, right: Tensor, expected: Tensor) -> Tensor:
    """Turns logits into the gradient of the losses' sum, in place: probabilities, less one at the right output."""
    if logits.is_cuda:  # half the traffic of an exponential in float32 that is rounded afterwards
        torch.softmax(logits, -1, out=logits)
    else:
        logits.copy_(log_probabilities.exp_())
    # Near one, a probability that is rounded before one is taken off keeps no digit of the difference.
    return logits.scatter_(1, expected, torch.expm1(right).to(logits.dtype))


def _add_product(total: Tensor, gradient: Tensor, part: Tensor) -> None:
    """Adds `gradient.T @ part` to `total`, which is in float32."""
    if gradient.dtype == torch.float32:
        total.addmm_(gradient.T, part)
    elif gradient.is_cuda:
        torch.addmm(total, gradient.T, part, out_dtype=torch.float32, out=total)
    else:
        pieces = torch.split(total, OUTPUTS), torch.split(gradient, OUTPUTS, dim=1)
        for rows, columns in zip(*pieces, strict=True):
            rows.add_(columns.T @ part)


def count_held_positions(vocab_size: int, width: int, device: torch.device) -> int:
    """Positions whose logits are held at a time: on a CPU about the layer's width, else the tiles in `HELD_LOGITS`."""
    most = max(1, HELD_LOGITS // vocab_size)
    return min(most, max(CPU_POSITIONS, width)) if device.type == "cpu" else max(1, most // TILE * TILE)


def sum_losses(hidden: Tensor, weight: Tensor, labels: Tensor, *, held_positions: int) -> Tensor:
    """Sums the losses of predicting each next token.

    Args:
        hidden: Shape (B, T, D).
        weight: Of the output layer, shape (V, D).
        labels: Shape (B, T), int64, aligned with the inputs; -100 where nothing is to be predicted.
        held_positions: How many positions' logits are there at a time.

    Returns:
        A scalar, float32.
    """
    expected = labels[:, 1:].reshape(-1)
    is_counted = expected != IGNORED
    flat = hidden[:, :-1].reshape(-1, hidden.shape[-1])[is_counted]
    counted = expected[is_counted]
    total: Tensor = LinearCrossEntropy.apply(flat, weight, counted, held_positions)  # type: ignore[no-untyped-call]
    return total


class TrainedModel(nn.Module):
    """A causal language model as a training loop calls it: with labels it gives the summed loss alone.

    Args:
        model: The model, whose output layer has no bias.
        held_positions: More positions are computed in chunks of so many; `None` for what suits the device.
    """

    def __init__(self, model: CodeShellForCausalLM, *, held_positions: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.held_positions = held_positions

    @property
    def config(self) -> CodeShellConfig:
        """The model's configuration."""
        config: CodeShellConfig = self.model.config
        return config

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Tensor
    ) -> Tensor | CausalLMOutputWithPast:
        """Runs the model.

        Args:
            input_ids: Shape (B, T), int64.
            labels: Shape (B, T), int64, or `None` for the model's own outputs.
            kwargs: What the model takes.

        Returns:
            The sum of the losses, a scalar in float32; without labels, the model's outputs.
        """
        if labels is None:
            return self.model(input_ids=input_ids, **kwargs)
        held = self.held_positions or count_held_positions(self.config.vocab_size, self.config.n_embd, input_ids.device)
        if labels.numel() > held:
            hidden = self.model.transformer(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state
            return sum_losses(hidden, self.model.lm_head.weight, labels, held_positions=held)
        logits = self.model(input_ids=input_ids, use_cache=False, **kwargs).logits
        flat = logits[:, :-1].reshape(-1, logits.shape[-1]).float()
        return nn.functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum")
