"""The training loss from hidden states, in chunks: the logits of all positions are never in memory together."""

import functools
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..configuration_codeshell import CodeShellConfig
from ..modeling_codeshell import CodeShellForCausalLM
from ..text.bits_per_byte import losses_from_hidden

# Numbers in the logits of a chunk: 512 MiB in float32. Every chunk reads the output layer and adds to its gradient, so
# small chunks are bound by memory bandwidth; larger ones than this are no faster.
HELD_LOGITS = 1 << 27
TILE = 128  # positions; chunks that are not a multiple of it leave tiles of the matrix product half empty
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
    number. Products are in autocast's dtype, sums in float32. Ignored positions are computed too, with a gradient of
    zero: to leave them out, the host would have to wait for a GPU. The z-loss is in the gradient and not in the value,
    so that curves with and without it can be compared.

    Source:
        Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2, for the order of work; Chowdhery et al. 2022,
        "PaLM", arXiv:2204.02311, section 5, for the z-loss.
    """

    @staticmethod
    def forward(
        ctx: _Context,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        chunk: int,
        compiles: bool,  # noqa: FBT001
        z_loss: float,
    ) -> Tensor:
        """The sum of the losses, a float32 scalar; gradients are saved.

        Args:
            ctx: Autograd's context.
            hidden: Shape (N, D).
            weight: Shape (V, D).
            labels: Shape (N,), int64; -100 for positions that predict nothing.
            chunk: Positions at a time.
            compiles: Whether to compile the part between the matrix products.
            z_loss: Weight of the squared logarithm of the softmax's sum.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False), torch.no_grad():
            matrix = weight.to(dtype)
            total = torch.zeros((), device=hidden.device)
            hidden_gradient = torch.empty_like(hidden, dtype=dtype)
            weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
            is_counted = labels != IGNORED
            expected = labels.where(is_counted, 0)[:, None]
            weights = is_counted[:, None].to(torch.float32)
            # Reused by each chunk: on a CPU, allocating large blocks costs more than computing in them.
            logits = torch.empty(min(chunk, len(hidden)), len(weight), dtype=dtype, device=hidden.device)
            exact = None if compiles else torch.empty_like(logits, dtype=torch.float32)
            for start in range(0, len(hidden), chunk):
                end = min(start + chunk, len(hidden))
                part, gradient = hidden[start:end].to(dtype), logits[: end - start]
                torch.mm(part, matrix.T, out=gradient)
                if exact is None:
                    total += _compiled_gradient()(gradient, expected[start:end], weights[start:end], z_loss)
                else:
                    buffer = exact[: end - start]
                    total += _turn_into_gradient(gradient, expected[start:end], weights[start:end], z_loss, buffer)
                torch.mm(gradient, matrix, out=hidden_gradient[start:end])
                _add_product(weight_gradient, gradient, part)
            hidden_gradient = hidden_gradient.to(hidden.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """The saved gradients of `hidden` and `weight`, times that of the sum."""
        hidden, weight = ctx.saved_tensors
        (scale,) = gradients
        return hidden * scale.to(hidden.dtype), (weight * scale).to(ctx.weight_dtype), None, None, None, None


def _turn_into_gradient(logits: Tensor, expected: Tensor, weights: Tensor, z_loss: float, exact: Tensor) -> Tensor:
    """Turns logits into the gradient of the summed loss in place, and returns that loss.

    The gradient is the probabilities, minus one at the label. With the z-loss, c L**2 where L is the logarithm of the
    softmax's sum, the probabilities are first multiplied by 1 + 2 c L.

    Args:
        logits: Shape (N, V).
        expected: The labels, shape (N, 1).
        weights: Of each position's loss, shape (N, 1), float32.
        z_loss: c.
        exact: A buffer of the logits' shape, in float32.
    """
    if logits.is_cuda:
        torch.log_softmax(logits, -1, dtype=torch.float32, out=exact)
    else:  # in place: a further conversion costs as much as the rest
        torch.log_softmax(exact.copy_(logits), -1, out=exact)
    right = exact.gather(1, expected)
    excess = 2 * z_loss * (logits.gather(1, expected).float() - right) if z_loss else None  # 2 c L
    factors = weights if excess is None else weights * (1 + excess)
    if logits.is_cuda:  # half the memory traffic of an exponential in float32
        torch.softmax(logits, -1, out=logits).mul_(factors)
    else:
        logits.copy_(exact.exp_().mul_(factors))
    # expm1, since p - 1 of a rounded p near 1 has no correct digit.
    at_label = torch.expm1(right) if excess is None else torch.expm1(right) + excess * right.exp()
    logits.scatter_(1, expected, (at_label * weights).to(logits.dtype))
    return -(right * weights).sum()


def _fuse_gradient(logits: Tensor, expected: Tensor, weights: Tensor, z_loss: float) -> Tensor:
    """`_turn_into_gradient` without a buffer, to be compiled: two reads of the logits and one write."""
    exact = logits.float()
    log_sums = exact.logsumexp(-1, keepdim=True)
    right = logits.gather(1, expected).float() - log_sums
    places = torch.arange(logits.shape[1], device=logits.device)
    excess = 2 * z_loss * log_sums
    at_label = torch.expm1(right) + excess * right.exp()
    gradient = ((exact - log_sums).exp() * (1 + excess)).where(places != expected, at_label) * weights
    logits.copy_(gradient)
    return -(right * weights).sum()


@functools.cache
def _compiled_gradient() -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    return torch.compile(_fuse_gradient)


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


def sum_losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, held_positions: int, compiles: bool = False, z_loss: float = 0.0
) -> Tensor:
    """The sum of the next-token losses, a float32 scalar.

    Args:
        hidden: Shape (B, T, D).
        weight: Of the output layer, shape (V, D).
        labels: Shape (B, T), int64, aligned with the inputs; -100 for tokens that are not predicted.
        held_positions: Positions in a chunk.
        compiles: Whether to compile the part between the matrix products.
        z_loss: Weight of the squared logarithm of the softmax's sum, in the gradient alone.
    """
    # The last position of each row is kept, and ignored, so that chunks are whole tiles.
    targets = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    return sum_target_losses(hidden, weight, targets, held_positions=held_positions, compiles=compiles, z_loss=z_loss)


def sum_target_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, held_positions: int, compiles: bool, z_loss: float
) -> Tensor:
    """As `sum_losses`, with the token that each position predicts, shape (B, T), int64; -100 for none."""
    flat, expected = hidden.flatten(0, 1), targets.flatten()
    total: Tensor = LinearCrossEntropy.apply(flat, weight, expected, held_positions, compiles, z_loss)  # type: ignore[no-untyped-call]
    return total


class TrainedModel(nn.Module):
    """A causal language model for a training loop: with labels it returns only the summed loss.

    Args:
        model: Its output layer has no bias.
        held_positions: Size of a chunk; `None` for the device's.
        compiles: Whether to compile the loss between its matrix products.
        z_loss: Weight of the squared logarithm of the softmax's sum, in the gradient alone.
    """

    def __init__(
        self,
        model: CodeShellForCausalLM,
        *,
        held_positions: int | None = None,
        compiles: bool = False,
        z_loss: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.held_positions = held_positions
        self.compiles = compiles
        self.z_loss = z_loss

    @property
    def config(self) -> CodeShellConfig:
        """The model's configuration."""
        config: CodeShellConfig = self.model.config
        return config

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        *,
        reduction: Literal["sum", "none"] = "sum",
        **kwargs: Tensor,
    ) -> Tensor | CausalLMOutputWithPast:
        """Runs the model: the sum of the losses, a float32 scalar; without labels, the model's own outputs.

        Args:
            input_ids: Shape (B, T), int64.
            labels: Shape (B, T), int64.
            reduction: With "none", the loss of each token but the first, shape (B, T - 1), without gradients; labels
                are then the inputs.
            kwargs: Passed on to the model.
        """
        if labels is None:
            return self.model(input_ids=input_ids, **kwargs)
        if reduction == "none":
            with torch.no_grad():
                hidden = self.model.transformer(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state
                return losses_from_hidden(hidden, self.model.lm_head, labels)
        held = self.held_positions or count_held_positions(self.config.vocab_size, self.config.n_embd, input_ids.device)
        if labels.numel() > held:
            hidden = self.model.transformer(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state
            return sum_losses(
                hidden,
                self.model.lm_head.weight,
                labels,
                held_positions=held,
                compiles=self.compiles,
                z_loss=self.z_loss,
            )
        logits = self.model(input_ids=input_ids, use_cache=False, **kwargs).logits
        flat, expected = logits[:, :-1].reshape(-1, logits.shape[-1]).float(), labels[:, 1:].reshape(-1)
        loss = nn.functional.cross_entropy(flat, expected, ignore_index=IGNORED, reduction="sum")
        if self.z_loss and torch.is_grad_enabled():
            squares = self.z_loss * (flat.logsumexp(-1).square() * (expected != IGNORED)).sum()
            loss = loss + squares - squares.detach()
        return loss
