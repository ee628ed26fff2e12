"""The training loss from hidden states, in chunks: the logits of all positions are never in memory together."""

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..configuration_codeshell import CodeShellConfig
from ..modeling_codeshell import CodeShellForCausalLM

# Numbers in the logits of a chunk: 512 MiB in float32. Every chunk reads the output layer and adds to its gradient, so
# small chunks are bound by memory bandwidth; larger ones than this are no faster.
HELD_LOGITS = 1 << 27
TILE = 128  # positions; chunks that are no multiple of it leave tiles of the matrix product half empty
OUTPUTS = 8192  # rows of the gradient at a time, where a product cannot accumulate in float32
CPU_POSITIONS = 512  # smallest chunk on a CPU, so that it stays near the caches
IGNORED = -100


class _Context(Protocol):
    weight_dtype: torch.dtype

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear layer's outputs, in chunks of positions.

    The forward pass computes the gradients while a chunk's logits are in memory, so the backward pass multiplies by one
    number. Products are in autocast's dtype, sums in float32.

    Source:
        Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2, for the order of work.
    """

    @staticmethod
    def forward(ctx: _Context, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int) -> Tensor:
        """The sum of the losses, a float32 scalar; gradients are saved.

        Args:
            ctx: Autograd's context.
            hidden: Shape (N, D).
            weight: Shape (V, D).
            labels: Shape (N,), int64.
            chunk: Positions at a time.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False), torch.no_grad():
            matrix = weight.to(dtype)
            total = torch.zeros((), device=hidden.device)
            hidden_gradient = torch.empty_like(hidden, dtype=dtype)
            weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
            # Reused by each chunk: on a CPU, allocating large blocks costs more than computing in them.
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
        """The saved gradients of `hidden` and `weight`, times that of the sum."""
        hidden, weight = ctx.saved_tensors
        (scale,) = gradients
        return hidden * scale.to(hidden.dtype), (weight * scale).to(ctx.weight_dtype), None, None


def _log_softmax(logits: Tensor, *, out: Tensor) -> None:
    if out.device.type == "cpu":  # in place: a further conversion costs as much as the rest
        torch.log_softmax(out.copy_(logits), -1, out=out)
    else:
        torch.log_softmax(logits, -1, dtype=torch.float32, out=out)


def _to_gradient(logits: Tensor, log_probabilities: Tensor, right: Tensor, expected: Tensor) -> Tensor:
    """Turns logits into the gradient of the summed loss in place: probabilities, minus one at the label."""
    if logits.is_cuda:  # half the memory traffic of an exponential in float32
        torch.softmax(logits, -1, out=logits)
    else:
        logits.copy_(log_probabilities.exp_())
    # expm1, since p - 1 of a rounded p near 1 has no correct digit.
    return logits.scatter_(1, expected, torch.expm1(right).to(logits.dtype))


def _add_product(total: Tensor, gradient: Tensor, part: Tensor) -> None:
    """Adds `gradient.T @ part` to the float32 `total`."""
    if gradient.dtype == torch.float32:
        total.addmm_(gradient.T, part)
    elif gradient.is_cuda:
        torch.addmm(total, gradient.T, part, out_dtype=torch.float32, out=total)
    else:
        pieces = torch.split(total, OUTPUTS), torch.split(gradient, OUTPUTS, dim=1)
        for rows, columns in zip(*pieces, strict=True):
            rows.add_(columns.T @ part)


def count_held_positions(vocab_size: int, width: int, device: torch.device) -> int:
    """The size of a chunk: about the layer's width on a CPU, else whole tiles within `HELD_LOGITS`."""
    most = max(1, HELD_LOGITS // vocab_size)
    return min(most, max(CPU_POSITIONS, width)) if device.type == "cpu" else max(1, most // TILE * TILE)


def sum_losses(hidden: Tensor, weight: Tensor, labels: Tensor, *, held_positions: int) -> Tensor:
    """The sum of the next-token losses, a float32 scalar.

    Args:
        hidden: Shape (B, T, D).
        weight: Of the output layer, shape (V, D).
        labels: Shape (B, T), int64, aligned with the inputs; -100 for tokens that are not predicted.
        held_positions: Positions in a chunk.
    """
    expected = labels[:, 1:].reshape(-1)
    is_counted = expected != IGNORED
    flat = hidden[:, :-1].reshape(-1, hidden.shape[-1])[is_counted]
    counted = expected[is_counted]
    total: Tensor = LinearCrossEntropy.apply(flat, weight, counted, held_positions)  # type: ignore[no-untyped-call]
    return total


class TrainedModel(nn.Module):
    """A causal language model for a training loop: with labels it returns only the summed loss.

    Args:
        model: Its output layer has no bias.
        held_positions: Size of a chunk; `None` for the device's.
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
        """Runs the model: the sum of the losses, a float32 scalar; without labels, the model's own outputs.

        Args:
            input_ids: Shape (B, T), int64.
            labels: Shape (B, T), int64.
            kwargs: Passed on to the model.
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
