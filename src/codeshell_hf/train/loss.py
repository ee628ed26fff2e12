"""The training loss, from hidden states straight to a number: logits of all positions are never held together."""

from typing import Any

import torch
from torch import Tensor, nn

# Logits of so many numbers are held at once: 64 MiB in float32.
HELD_LOGITS = 1 << 24
IGNORED = -100


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear layer's outputs, some positions at a time.

    Gradients are worked out in the forward pass, while a chunk's logits are there, so the backward pass multiplies by
    one number. Arithmetic is in the dtype of autocast, sums in float32.

    Source:
        The order of work is that of Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989, section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int) -> Tensor:
        """Sums the losses.

        Args:
            ctx: Keeps the gradients.
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
            hidden_gradient = torch.empty_like(hidden)
            weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
            for start in range(0, len(hidden), chunk):
                part, expected = hidden[start : start + chunk].to(dtype), labels[start : start + chunk]
                logits = (part @ matrix.T).float()
                sums = logits.logsumexp(-1, keepdim=True)
                total += (sums.squeeze(1) - logits.gather(1, expected[:, None]).squeeze(1)).sum()
                gradient = logits.sub_(sums).exp_()
                gradient[torch.arange(len(expected), device=hidden.device), expected] -= 1
                gradient = gradient.to(dtype)
                hidden_gradient[start : start + chunk] = gradient @ matrix
                weight_gradient += gradient.T @ part
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Scales what the forward pass worked out.

        Args:
            ctx: Keeps it.
            gradients: Of the sum, one scalar.

        Returns:
            Gradients of `hidden` and `weight`.
        """
        hidden, weight = ctx.saved_tensors
        (scale,) = gradients
        return hidden * scale.to(hidden.dtype), (weight * scale).to(ctx.weight_dtype), None, None


def sum_losses(hidden: Tensor, weight: Tensor, labels: Tensor, *, held_logits: int = HELD_LOGITS) -> Tensor:
    """Sums the losses of predicting each next token.

    Args:
        hidden: Shape (B, T, D).
        weight: Of the output layer, shape (V, D).
        labels: Shape (B, T), int64, aligned with the inputs; -100 where nothing is to be predicted.
        held_logits: How many logits are there at a time.

    Returns:
        A scalar, float32.
    """
    expected = labels[:, 1:].reshape(-1)
    is_counted = expected != IGNORED
    flat = hidden[:, :-1].reshape(-1, hidden.shape[-1])[is_counted]
    chunk = max(1, held_logits // weight.shape[0])
    total: Tensor = LinearCrossEntropy.apply(flat, weight, expected[is_counted], chunk)
    return total


class TrainedModel(nn.Module):
    """A causal language model as a training loop calls it: with labels it gives the summed loss alone.

    Args:
        model: The model, whose output layer has no bias.
        held_logits: Where there would be more of them, the loss is worked out in chunks of so many.
    """

    model: Any

    def __init__(self, model: nn.Module, *, held_logits: int = HELD_LOGITS) -> None:
        super().__init__()
        self.model = model
        self.held_logits = held_logits

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Any) -> Any:
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
        if labels.numel() * self.config.vocab_size > self.held_logits:
            hidden = self.model.transformer(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state
            return sum_losses(hidden, self.model.lm_head.weight, labels, held_logits=self.held_logits)
        logits = self.model(input_ids=input_ids, use_cache=False, **kwargs).logits
        flat = logits[:, :-1].reshape(-1, logits.shape[-1]).float()
        return nn.functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum")
