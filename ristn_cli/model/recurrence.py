"""A bidirectional ConvLSTM layer in the form it computes fastest in: steps in place, one direction after the other."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.fused import FusedConvolution
from ristn_cli.model.temporal import GATES, BidirectionalConvLSTM


def advance(gates: Tensor, half_cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """The part of a ConvLSTM step behind its convolutions, which overwrites `gates`; values as of `Direction.step`.

    tanh costs a processor three times what a sigmoid does, so tanh(x) = 2 s(2x) - 1 takes its place, in float32, where
    it is exact near 0 too. The weights that make candidates are doubled for it, and cells are kept halved.
    """
    hidden = gates.shape[1] // GATES
    after = gates[:, -hidden:].to(torch.float32, copy=True).sigmoid_().sub_(0.5)
    admit, forget, release, _ = gates.sigmoid_().chunk(GATES, dim=1)
    after.mul_(admit)
    if half_cell is not None:
        after.addcmul_(half_cell, forget.float())
    squashed = after.mul(4).sigmoid_().sub_(0.5).mul_(2)
    return squashed.mul_(release).to(gates.dtype), after


class Direction(nn.Module):
    """One direction of a ConvLSTM layer. `advance` may be replaced by a compiled form of itself."""

    def __init__(self, input_weight: Tensor, input_bias: Tensor, hidden_weight: Tensor) -> None:
        super().__init__()
        self.hidden = hidden_weight.shape[1]
        self.advance: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]] = advance
        factor = torch.tensor([1.0, 1.0, 1.0, 2.0], dtype=torch.float64).repeat_interleave(self.hidden)
        self.input_gates = FusedConvolution(
            (input_weight.double() * factor[:, None, None, None]).float(), (input_bias.double() * factor).float()
        )
        self.hidden_gates = FusedConvolution((hidden_weight.double() * factor[:, None, None, None]).float(), None)

    def step(self, gates: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Hidden values (B, hidden, H, W) and halved cells (the same in float32) after a frame; overwrites `gates`."""
        if state is None:
            return self.advance(gates, None)
        return self.advance(self.hidden_gates.add_to(gates, state[0]), state[1])


class Layer(nn.Module):
    """One bidirectional ConvLSTM layer."""

    def __init__(self, trained: BidirectionalConvLSTM, entry: nn.Conv2d | None = None) -> None:
        super().__init__()
        weight, bias = trained.input_gates.weight.double(), trained.input_gates.bias
        assert bias is not None
        bias = bias.double()
        border: Tensor | None = None
        if entry is not None:  # a 1x1 convolution before it is one matrix more in the product
            assert entry.bias is not None
            # Its bias is not there beyond the frame: what each tap would bring of it, to be taken away at the borders.
            missing = torch.einsum("omhw,m->ohw", weight, entry.bias.double())
            bias = bias + missing.sum((1, 2))
            border = missing
            weight = torch.einsum("omhw,mi->oihw", weight, entry.weight.double()[:, :, 0, 0])
        halves = zip(weight.chunk(2), bias.chunk(2), trained.hidden_gates.weight.chunk(2), strict=True)
        self.directions = nn.ModuleList(Direction(*half) for half in halves)
        if border is not None:
            candidates = torch.arange(GATES) == GATES - 1
            factor = (1.0 + candidates).repeat_interleave(trained.hidden).repeat(2)
            border = (border * factor[:, None, None]).float()
        self.border = None if border is None else nn.Parameter(border)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(T*B, C, H, W) to (T*B, 2*hidden, H, W): the forward direction's channels, then the backward's."""
        return torch.cat([self._run(index, x, frames) for index in range(2)], dim=1)

    def _run(self, index: int, x: Tensor, frames: int) -> Tensor:
        """One direction's (T*B, hidden, H, W); 0 runs forward, 1 backward."""
        direction = self.directions[index]
        assert isinstance(direction, Direction)
        gates = direction.input_gates(x)
        if self.border is not None:
            take_from_borders(gates, self.border.chunk(2)[index])
        steps = gates.chunk(frames)
        state: tuple[Tensor, Tensor] | None = None
        hidden: list[Tensor] = []
        for step in steps if index == 0 else reversed(steps):
            state = direction.step(step, state)
            hidden.append(state[0])
        return torch.cat(hidden if index == 0 else hidden[::-1])


def take_from_borders(gates: Tensor, missing: Tensor) -> None:
    """Take from (N, C, H, W), at its borders, the shares (C, 3, 3) of those taps of a 3x3 kernel that lie outside."""
    height, width = gates.shape[2:]
    inside = missing.new_ones(1, 1, min(height, 3), min(width, 3))
    outside = missing.sum((1, 2))[:, None, None] - F.conv2d(inside, missing[:, None], padding=1)[0]
    outside = outside.to(gates.dtype)
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
