"""AdamW with moments in 16 or 8 bits, and weights that may be in 16.

Arithmetic is in float32, on a slice of a matrix at a time. What is stored is rounded stochastically, since
rounding to the nearest loses each update of less than half of the last bit. Moments of 8 bits are blocks of a row's
numbers, each with its largest magnitude in float32. Blocks never cross rows, so that any number of ranks can divide a
matrix.

Source:
    Dettmers et al. 2022, "8-bit optimizers via block-wise quantization", arXiv:2110.02861; Zamirai et al. 2020,
    "Revisiting bfloat16 training", arXiv:2010.06192, for stochastic rounding.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT, StateDict

from .row_shards import find_first_row, like_local, to_local
from .settings import MomentFormat

BLOCK = 256  # numbers with a common scale
SLICE = 2**24  # numbers of a matrix that are computed at once
SCALE = "_scale"
_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's names
# MurmurHash3's finaliser (Appleby, public domain), as int32.
_MIXERS = (-2048144789, -1028477387)


def make_code(*, signed: bool) -> Tensor:
    """The 256 numbers that 8 bits stand for, sorted, float32; from -1 or 0 to 1, denser towards 0.

    Each decade from 1e-6 on has twice as many as the one below it.

    Source:
        Dettmers et al. 2022, arXiv:2110.02861, section 1.3 (dynamic tree quantization).
    """
    numbers = [0.0, 1.0]
    for decade in range(7):
        count = 2 ** (decade if signed else decade + 1)
        middles = (0.1 + 0.9 * (place + 0.5) / count for place in range(count))
        positive = [middle * 10.0 ** (decade - 6) for middle in middles]
        numbers += positive + [-number for number in positive if signed]
    return torch.tensor(sorted(numbers))


def quantize(values: Tensor, code: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Stores numbers as one of their two neighbours in a code, times the largest magnitude of their block.

    Each neighbour is as likely as the number is near it: the nearest would lose a slow mean's changes, which are
    smaller than half of their distance.

    Args:
        values: Shape (R, C), float32.
        code: Shape (256,), sorted.
        noise: Of `make_noise`, of as many numbers; 2**15 everywhere takes the nearest.

    Returns:
        Places in the code, shape (R, C), uint8, and magnitudes, shape (R, ceil(C / `BLOCK`)), float32.
    """
    rows, columns = values.shape
    padded = nn.functional.pad(values, (0, -columns % BLOCK)).view(rows, -1, BLOCK)
    scales = padded.abs().amax(-1)
    shares = (padded / scales.clamp(min=torch.finfo(torch.float32).tiny)[..., None]).view(rows, -1)[:, :columns]
    shares = shares.contiguous()
    places = torch.bucketize(shares, code, right=True, out_int32=True).sub_(1).clamp_(0, len(code) - 2)
    gaps = (code[1:] - code[:-1])[places]
    places += (shares - code[places]) * 2**16 > noise.view_as(shares) * gaps
    if code[0] >= 0:  # a second moment of 0 would make the largest step of a gradient that was small
        places = places.masked_fill_((places == 0) & (values > 0), 1)
    return places.to(torch.uint8), scales


def dequantize(places: Tensor, scales: Tensor, code: Tensor) -> Tensor:
    """What `quantize` stored, shape (R, C), float32."""
    numbers = code[places.int()]
    return numbers * scales.repeat_interleave(BLOCK, dim=1)[:, : numbers.shape[1]]


def make_noise(first: int, count: int, seed: int, device: torch.device) -> Tensor:
    """Random int32 numbers below 65,536, which depend on their place in a parameter and the seed alone.

    So a parameter is rounded alike however its rows are divided among ranks, and alike by replicas.

    Args:
        first: The first number's place.
        seed: Of the parameter, the step and what is rounded.
    """
    noise = torch.arange(first, first + count, device=device).bitwise_xor_(seed * 0x9E3779B9 & 0x7FFFFFFF).int()
    for shift, mixer in zip((16, 13), _MIXERS, strict=True):
        noise.bitwise_xor_(noise >> shift & (1 << 32 - shift) - 1).mul_(mixer)
    return noise >> 16 & 0xFFFF


def round_stochastically(values: Tensor, noise: Tensor) -> Tensor:
    """Rounds float32 to one of the two neighbours in bfloat16, to each as likely as the number is near it.

    Args:
        values: Any shape, finite or not.
        noise: Of `make_noise`, of as many numbers.
    """
    bits = values.contiguous().view(torch.int32)
    rounded = (bits + noise.view_as(bits)).bitwise_and_(-65536).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).bfloat16()


class CompactAdamW(torch.optim.Optimizer):
    """AdamW whose matrices have moments of 16 or 8 bits; vectors keep float32.

    Args:
        parameters: Groups with their decay. Matrices may be bfloat16, with gradients in float32.
        moments: How matrices' moments are stored.
    """

    def __init__(
        self,
        parameters: ParamsT,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        moments: MomentFormat,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._moments = moments
        self._codes: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        number = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                number += 1
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self._make_moments(parameter)
                self.state[parameter]["step"] += 1
                for rows, first in _slice_rows(parameter):
                    self._update(group, parameter, rows, (first, number))
        return loss

    def _format(self, parameter: Tensor) -> MomentFormat:
        return self._moments if parameter.ndim > 1 else "float32"

    def prepare(self) -> None:
        """Makes the moments that do not exist yet, which torch's checkpoints do by a step with bfloat16 gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    self._make_moments(parameter)

    def _make_moments(self, parameter: Tensor) -> None:
        state = self.state[parameter]
        state["step"] = torch.tensor(0.0)
        local, stored = to_local(parameter), self._format(parameter)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "8bit": torch.uint8}[stored]
        for name in _MOMENTS:
            moment = torch.zeros_like(local, dtype=dtype)
            if stored == "8bit":
                moment.fill_(int(self._code(name, local.device).abs().argmin()))
                blocks = -(-local.shape[1] // BLOCK)
                scales = torch.zeros(local.shape[0], blocks, device=local.device)
                state[name + SCALE] = like_local(scales, parameter)
            state[name] = like_local(moment, parameter)

    def _code(self, name: str, device: torch.device) -> Tensor:
        if device not in self._codes:
            self._codes[device] = (make_code(signed=True).to(device), make_code(signed=False).to(device))
        return self._codes[device][_MOMENTS.index(name)]

    def _update(self, group: StateDict, parameter: nn.Parameter, rows: slice, place: tuple[int, int]) -> None:
        """Updates some of this rank's rows; `place` is of their first number, and the parameter's number."""
        state, weight = self.state[parameter], to_local(parameter)[rows]
        assert parameter.grad is not None  # noqa: S101 - for mypy; `step` has looked
        gradient = to_local(parameter.grad)[rows].float()
        step, (beta, beta_sq) = int(state["step"]), group["betas"]
        mean, square = (self._read(state, name, rows) for name in _MOMENTS)
        mean.lerp_(gradient, 1 - beta)
        square.mul_(beta_sq).addcmul_(gradient, gradient, value=1 - beta_sq)

        spread = square.sqrt().div_(math.sqrt(1 - beta_sq**step)).add_(group["eps"])
        updated = weight.float() if weight.dtype != torch.float32 else weight  # the latter is updated in place
        updated.mul_(1 - group["lr"] * group["weight_decay"])
        updated.addcdiv_(mean, spread, value=-group["lr"] / (1 - beta**step))

        def noise(what: int) -> Tensor:
            seed = (step * 4096 + place[1]) * 3 + what
            return make_noise(place[0], weight.numel(), seed, weight.device)

        if weight.dtype != torch.float32:
            weight.copy_(round_stochastically(updated, noise(0)))
        for what, (name, moment) in enumerate(zip(_MOMENTS, (mean, square), strict=True), start=1):
            stored = to_local(state[name])[rows]
            if stored.dtype == torch.uint8:
                places, scales = quantize(moment, self._code(name, weight.device), noise(what))
                stored.copy_(places)
                to_local(state[name + SCALE])[rows].copy_(scales)
            elif stored.dtype == torch.bfloat16:
                stored.copy_(round_stochastically(moment, noise(what)))

    def _read(self, state: Mapping[str, Tensor], name: str, rows: slice) -> Tensor:
        """A moment of some rows in float32; float32 ones in place."""
        stored = to_local(state[name])[rows]
        if stored.dtype == torch.uint8:
            return dequantize(stored, to_local(state[name + SCALE])[rows], self._code(name, stored.device))
        return stored.float()

    def load_state_dict(self, state_dict: StateDict) -> None:
        """As torch's, but nothing is converted to the parameter's dtype."""
        super().load_state_dict({**state_dict, "state": {}})
        numbers = (number for group in state_dict["param_groups"] for number in group["params"])
        parameters = (parameter for group in self.param_groups for parameter in group["params"])
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                self.state[parameter][name] = value if name == "step" else value.to(parameter.device)


def _slice_rows(parameter: Tensor) -> Iterator[tuple[slice, int]]:
    """Slices of this rank's rows, and the place of each one's first number in the whole parameter."""
    local, first = to_local(parameter), find_first_row(parameter)
    columns = local[:1].numel() or 1
    step = max(1, SLICE // columns)
    for begin in range(0, local.shape[0], step):
        yield slice(begin, min(begin + step, local.shape[0])), (first + begin) * columns
