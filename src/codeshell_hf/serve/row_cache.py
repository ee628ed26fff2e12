"""The keys and values of rows that join and leave a batch."""

# R rows, G query groups, S positions, W head width

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache

KeysAndValues = tuple[Tensor, Tensor]


class RowCache:
    """A cache of rows that are padded on the left to one length, and the mask of what is not padding.

    Args:
        layers: Keys and values of each layer, each of shape (R, G, S, W).
        mask: Shape (R, S), int64.
    """

    def __init__(self, layers: Sequence[KeysAndValues], mask: Tensor) -> None:
        # Without a configuration, so that layers with a sliding window keep all positions; the mask hides old ones.
        self.cache = DynamicCache()
        for number, (keys, values) in enumerate(layers):
            self.cache.update(keys, values, number)
        self.mask = mask

    @property
    def layers(self) -> list[KeysAndValues]:
        """Keys and values of each layer."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]

    def append_column(self) -> Tensor:
        """Adds the place of each row's next token to the mask, and returns their positions, shape (R, 1)."""
        self.mask = nn.functional.pad(self.mask, (0, 1), value=1)
        return self.mask.sum(-1, keepdim=True) - 1

    def select(self, rows: Sequence[int]) -> "RowCache":
        """Some of the rows, without the columns that are padding in all of them."""
        kept = torch.tensor(rows, device=self.mask.device)
        mask = self.mask[kept]
        first = int((mask.sum(0) > 0).int().argmax())
        layers = [(keys[kept][:, :, first:], values[kept][:, :, first:]) for keys, values in self.layers]
        return RowCache(layers, mask[:, first:])

    def join(self, other: "RowCache") -> "RowCache":
        """These rows and then the other ones."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        pairs = zip(self.layers, other.layers, strict=True)
        layers = [
            (_stack(keys, others, length), _stack(values, other_values, length))
            for (keys, values), (others, other_values) in pairs
        ]
        masks = (nn.functional.pad(mask, (length - mask.shape[1], 0)) for mask in (self.mask, other.mask))
        return RowCache(layers, torch.cat(tuple(masks)))


def _stack(first: Tensor, second: Tensor, length: int) -> Tensor:
    return torch.cat([nn.functional.pad(part, (0, 0, length - part.shape[2], 0)) for part in (first, second)])
