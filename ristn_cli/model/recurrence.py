"""A bidirectional ConvLSTM layer in the form it computes fastest in: steps in place, one direction after the other."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.fused import FusedConvolution
from ristn_cli.model.temporal import GATES, BidirectionalConvLSTM


def advance(gates: Tensor, candidate: Tensor | None, half_cell: Tensor | None, hidden: Tensor) -> Tensor:
    """The part of a ConvLSTM step behind its convolutions.

    tanh costs a processor three times what a sigmoid does, so tanh(x) = 2 s(2x) - 1 takes its place, in float32, where
    it is exact near 0 too. The weights that make candidates are doubled for it, and cells are kept halved.

    Args:
        gates: (B, 3*hidden, H, W), input, forget, output, or with the candidate behind them. It is overwritten.
        candidate: (B, hidden, H, W), or None where it is among `gates`; doubled.
        half_cell: halved cells (B, hidden, H, W) in float32, or None for cells at rest.
        hidden: (B, hidden, H, W), where the hidden values are written to.

    Returns:
        The halved cells after the step.
    """
    if candidate is None:
        candidate = gates[:, (GATES - 1) * gates.shape[1] // GATES :]
    after = candidate.to(torch.float32, copy=True).sigmoid_().sub_(0.5)
    i, f, o, *_ = torch.split(gates.sigmoid_(), candidate.shape[1], dim=1)
    after.mul_(i)
    if half_cell is not None:
        after.addcmul_(half_cell, f.float())
    hidden.copy_(after.mul(4).sigmoid_().sub_(0.5).mul_(2).mul_(o))
    return after


class Direction(nn.Module):
    """One direction of a ConvLSTM layer. `advance` may be replaced by a compiled form of itself.

    Args:
        gates: kernels (gates*hidden, C, K, K) and biases (gates*hidden,) of the input's share, kernels of the hidden
            share; with four gates the candidate is among them.
        candidate: the same of the candidate alone, where there are three gates.
    """

    def __init__(
        self, gates: tuple[Tensor, Tensor, Tensor], candidate: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.hidden = gates[2].shape[1]
        self.advance: Callable[[Tensor, Tensor | None, Tensor | None, Tensor], Tensor] = advance
        factor = torch.ones(len(gates[0]), dtype=torch.float64)
        factor[(GATES - 1) * self.hidden :] = 2.0
        self.input_gates, self.hidden_gates = scaled_convolutions(*gates, factor)
        self.input_candidate: FusedConvolution | None = None
        self.hidden_candidate: FusedConvolution | None = None
        if candidate is not None:
            doubled = torch.full((self.hidden,), 2.0, dtype=torch.float64)
            self.input_candidate, self.hidden_candidate = scaled_convolutions(*candidate, doubled)

    def step(
        self, gates: Tensor, candidate: Tensor | None, state: tuple[Tensor, Tensor] | None, hidden: Tensor
    ) -> Tensor:
        """Halved cells (B, hidden, H, W) in float32 after a frame, whose hidden values are written to `hidden`.

        `gates` and `candidate`, the input's shares, are overwritten. `state` is hidden values and cells of the frame
        before.
        """
        if state is None:
            return self.advance(gates, candidate, None, hidden)
        gates = self.hidden_gates.add_to(gates, state[0])
        if candidate is not None:
            assert self.hidden_candidate is not None
            candidate = self.hidden_candidate.add_to(candidate, state[0])
        return self.advance(gates, candidate, state[1], hidden)


def scaled_convolutions(
    input_weight: Tensor, input_bias: Tensor, hidden_weight: Tensor, factor: Tensor
) -> tuple[FusedConvolution, FusedConvolution]:
    """The input's and the hidden share's convolutions, each output channel times its factor."""
    kernels = factor[:, None, None, None]
    return (
        FusedConvolution((input_weight.double() * kernels).float(), (input_bias.double() * factor).float()),
        FusedConvolution((hidden_weight.double() * kernels).float(), None),
    )


class Layer(nn.Module):
    """One bidirectional ConvLSTM layer."""

    def __init__(self, trained: BidirectionalConvLSTM, entry: nn.Conv2d | None = None) -> None:
        super().__init__()
        gates, border = fold_entry(trained.input_gates, entry)
        shares = [(*gates, trained.hidden_gates.weight)]
        self.candidate_border: nn.Parameter | None = None
        if trained.input_candidate is not None:
            assert trained.hidden_candidate is not None
            candidate, missing = fold_entry(trained.input_candidate, entry)
            shares.append((*candidate, trained.hidden_candidate.weight))
            border = None  # 1x1 gates do not reach past a border
            if missing is not None:
                self.candidate_border = nn.Parameter(2 * missing.float())
        elif border is not None:
            border.view(2, GATES, trained.hidden, 3, 3)[:, -1] *= 2
        self.border = None if border is None else nn.Parameter(border.float())
        halves = zip(*(zip(*(part.chunk(2) for part in share), strict=True) for share in shares), strict=True)
        self.directions = nn.ModuleList(Direction(*half) for half in halves)

    def forward(self, read: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Hidden values (T*B, hidden, H, W) of the forward direction and of the backward one.

        Args:
            read: tensors (T*B, C, H, W) that stand one behind the other in what the layer reads.
            frames: T.
        """
        height, width = read[0].shape[2:]
        borders = [
            None if missing is None else border_shares(missing, height, width, read[0].dtype)
            for missing in (self.border, self.candidate_border)
        ]
        return [self._run(index, read, frames, borders) for index in range(2)]

    def _run(self, index: int, read: Sequence[Tensor], frames: int, borders: list[Tensor | None]) -> Tensor:
        """One direction's hidden values; 0 runs forward, 1 backward.

        What the layer reads is joined frame by frame, and so are the gates: both are wide, and stay in the cache so.
        """
        direction = self.directions[index]
        assert isinstance(direction, Direction)
        shape = (len(read[0]), direction.hidden, *read[0].shape[2:])
        hidden = torch.empty(shape, dtype=read[0].dtype, device=read[0].device, memory_format=torch.channels_last)
        by_frame = list(zip(*(part.chunk(frames) for part in (*read, hidden)), strict=True))
        state: tuple[Tensor, Tensor] | None = None
        for *parts, made in by_frame if index == 0 else reversed(by_frame):
            x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            shares = [None if each is None else each(x) for each in (direction.input_gates, direction.input_candidate)]
            for share, border in zip(shares, borders, strict=True):
                if share is not None and border is not None:
                    take_from_borders(share, border.chunk(2)[index])
            gates, candidate = shares
            assert gates is not None
            state = made, direction.step(gates, candidate, state, made)
        return hidden


def fold_entry(convolution: nn.Conv2d, entry: nn.Conv2d | None) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Kernels and biases, in float64, of a convolution with a 1x1 convolution before it folded into its product.

    The second result is what each tap (C, K, K) would bring of the 1x1 convolution's bias: beyond the frame that bias
    is not there, so it is to be taken away at the borders. None without such a convolution.
    """
    weight, bias = convolution.weight.double(), convolution.bias
    assert bias is not None
    bias = bias.double()
    if entry is None:
        return (weight, bias), None
    assert entry.bias is not None
    missing = torch.einsum("omhw,m->ohw", weight, entry.bias.double())
    folded = torch.einsum("omhw,mi->oihw", weight, entry.weight.double()[:, :, 0, 0])
    return (folded, bias + missing.sum((1, 2))), missing


def border_shares(missing: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """What the taps outside the frame would bring: (C, h, w) with one row and column for all that have no border.

    Args:
        missing: the share (C, 3, 3) of each tap.
        height: of the frame.
        width: of the frame.
        dtype: of the result.
    """
    inside = missing.new_ones(1, 1, min(height, 3), min(width, 3))
    return (missing.sum((1, 2))[:, None, None] - F.conv2d(inside, missing[:, None], padding=1)[0]).to(dtype)


def take_from_borders(gates: Tensor, outside: Tensor) -> None:
    """Take from (N, C, H, W), at its borders, the shares that `border_shares` made."""
    height, width = gates.shape[2:]
    if width > 3:  # a slice, not an index: that would be a copy to the device in the middle of its work
        across = torch.cat([outside[..., :1], outside[..., 1:2].expand(-1, -1, width - 2), outside[..., 2:]], dim=2)
    else:
        across = outside
    gates[:, :, 0].sub_(across[:, 0])
    if height > 1:
        gates[:, :, -1].sub_(across[:, -1])
    gates[:, :, 1:-1, 0].sub_(outside[:, 1:2, 0])
    if width > 1:
        gates[:, :, 1:-1, -1].sub_(outside[:, 1:2, -1])
