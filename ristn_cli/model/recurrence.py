"""A bidirectional ConvLSTM layer for inference: steps update tensors in place, one direction after the other."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.fused import FusedConvolution
from ristn_cli.model.temporal import GATES, BidirectionalConvLSTM


def advance(ifo: Tensor, g: Tensor | None, half_cell: Tensor | None, hidden: Tensor) -> Tensor:
    """Compute the part of a ConvLSTM step that follows its convolutions.

    On CPUs, tanh takes three times as long as sigmoid. Therefore tanh(x) is computed as 2 sigmoid(2x) - 1, in float32,
    where it is exact near 0. The weights that produce g are doubled accordingly, and the cells are stored halved.

    Args:
        ifo: (B, 3*hidden, H, W): i, f and o. With (B, 4*hidden, H, W), g follows. Overwritten.
        g: (B, hidden, H, W), doubled; None if it is part of `ifo`.
        half_cell: halved cells (B, hidden, H, W) in float32; None before the first frame.
        hidden: (B, hidden, H, W), receives the hidden values.

    Returns:
        The halved cells after the step.
    """
    if g is None:
        g = ifo[:, (GATES - 1) * ifo.shape[1] // GATES :]
    after = g.to(torch.float32, copy=True).sigmoid_().sub_(0.5)
    i, f, o, *_ = torch.split(ifo.sigmoid_(), g.shape[1], dim=1)
    after.mul_(i)
    if half_cell is not None:
        after.addcmul_(half_cell, f.float())
    hidden.copy_(after.mul(4).sigmoid_().sub_(0.5).mul_(2).mul_(o))
    return after


Share = tuple[Tensor, Tensor, Tensor]
"""Input kernels (gates*hidden, C, K, K) and biases (gates*hidden,), and hidden kernels, of a pair of convolutions."""


class Direction(nn.Module):
    """One direction of a ConvLSTM layer. Its `advance` may be replaced by a compiled version.

    Args:
        shares: one for i, f, o and g together, or one for i, f, o followed by one for g.
    """

    def __init__(self, *shares: Share) -> None:
        super().__init__()
        self.hidden = shares[0][2].shape[1]
        self.advance: Callable[[Tensor, Tensor | None, Tensor | None, Tensor], Tensor] = advance
        pairs = []
        for share in shares:
            factor = torch.ones(len(share[1]), dtype=torch.float64)
            if share is shares[-1]:
                factor[-self.hidden :] = 2.0  # g
            pairs.append(scaled_convolutions(*share, factor))
        self.of_input, self.of_hidden = (nn.ModuleList(each) for each in zip(*pairs, strict=True))

    def step(self, sums: Sequence[Tensor], state: tuple[Tensor, Tensor] | None, hidden: Tensor) -> Tensor:
        """Compute one frame: write its hidden values to `hidden` and return its halved cells in float32.

        Args:
            sums: results of the input convolutions, one tensor per share. Overwritten.
            state: hidden values and halved cells of the previous frame; None before the first frame.
            hidden: (B, hidden, H, W), receives the hidden values.
        """
        if state is not None:
            sums = [each.add_to(total, state[0]) for each, total in zip(self.of_hidden, sums, strict=True)]  # type: ignore[operator]
        return self.advance(sums[0], sums[1] if len(sums) > 1 else None, None if state is None else state[1], hidden)


def scaled_convolutions(
    input_weight: Tensor, input_bias: Tensor, hidden_weight: Tensor, factor: Tensor
) -> tuple[FusedConvolution, FusedConvolution]:
    """Return the input and the hidden convolution, with each output channel multiplied by its factor."""
    kernels = factor[:, None, None, None]
    return (
        FusedConvolution((input_weight.double() * kernels).float(), (input_bias.double() * factor).float()),
        FusedConvolution((hidden_weight.double() * kernels).float(), None),
    )


class Layer(nn.Module):
    """One bidirectional ConvLSTM layer.

    Args:
        trained: the trained layer.
        entry: a 1x1 convolution before the layer, which is folded into it, or None.
    """

    def __init__(self, trained: BidirectionalConvLSTM, entry: nn.Conv2d | None = None) -> None:
        super().__init__()
        shares = []
        self.missing = nn.ParameterDict()
        pairs = trained.convolutions()
        for index, (of_input, of_hidden) in enumerate(pairs):
            weight, bias, missing = fold_entry(of_input, entry)
            shares.append((weight, bias, of_hidden.weight))
            if index == len(pairs) - 1:
                missing.unflatten(0, (2, -1, trained.hidden))[:, -1].mul_(2)  # type: ignore[no-untyped-call] # g
            if entry is not None and of_input.kernel_size == (3, 3):  # 1x1 kernels read no padding
                self.missing[str(index)] = nn.Parameter(missing)
        halves = zip(*(zip(*(part.chunk(2) for part in share), strict=True) for share in shares), strict=True)
        self.directions = nn.ModuleList(Direction(*half) for half in halves)

    def forward(self, read: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Return the hidden values (T*B, hidden, H, W) of the forward and of the backward direction.

        Args:
            read: tensors (T*B, C, H, W); their concatenation is the layer's input.
            frames: T.
        """
        height, width = read[0].shape[2:]
        borders = {
            int(index): border_shares(missing, height, width, read[0].dtype) for index, missing in self.missing.items()
        }
        return [self._run(index, read, frames, borders) for index in range(2)]

    def _run(self, index: int, read: Sequence[Tensor], frames: int, borders: dict[int, Tensor]) -> Tensor:
        """Return the hidden values of one direction; index 0 runs forward, 1 backward.

        The inputs and gates are wide, so they are computed for one frame at a time to stay in the CPU cache.
        """
        direction = self.directions[index]
        assert isinstance(direction, Direction)
        shape = (len(read[0]), direction.hidden, *read[0].shape[2:])
        hidden = torch.empty(shape, dtype=read[0].dtype, device=read[0].device, memory_format=torch.channels_last)
        by_frame = list(zip(*(part.chunk(frames) for part in (*read, hidden)), strict=True))
        state: tuple[Tensor, Tensor] | None = None
        for *parts, made in by_frame if index == 0 else reversed(by_frame):
            x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            sums = [convolution(x) for convolution in direction.of_input]
            for share, border in borders.items():
                subtract_at_borders(sums[share], border.chunk(2)[index])
            state = made, direction.step(sums, state, made)
        return hidden


def fold_entry(convolution: nn.Conv2d, entry: nn.Conv2d | None) -> tuple[Tensor, Tensor, Tensor]:
    """Fold a 1x1 convolution into the convolution that follows it.

    Returns:
        Kernels and biases in float64, and the contribution (C, K, K) of each tap to the 1x1 convolution's bias. Padding
            lies outside the frame and has no such bias, so `subtract_at_borders` removes it there. Zeros without a 1x1
            convolution.
    """
    weight, bias = convolution.weight.double(), convolution.bias
    assert bias is not None
    bias = bias.double()
    if entry is None:
        return weight, bias, weight.new_zeros(len(weight), *weight.shape[2:]).float()
    assert entry.bias is not None
    missing = torch.einsum("omhw,m->ohw", weight, entry.bias.double())
    folded = torch.einsum("omhw,mi->oihw", weight, entry.weight.double()[:, :, 0, 0])
    return folded, bias + missing.sum((1, 2)), missing.float()


def border_shares(missing: Tensor, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return the contribution of the taps that lie outside the frame, (C, h, w) with h, w <= 3, from that of each tap.

    The middle row and column stand for all positions away from the borders. `missing` is (C, 3, 3).
    """
    inside = missing.new_ones(1, 1, min(height, 3), min(width, 3))
    return (missing.sum((1, 2))[:, None, None] - F.conv2d(inside, missing[:, None], padding=1)[0]).to(dtype)


def subtract_at_borders(gates: Tensor, outside: Tensor) -> None:
    """Subtract the result of `border_shares` from the borders of `gates` (N, C, H, W), in place."""
    height, width = gates.shape[2:]
    if width > 3:  # slices, because an index tensor would be copied to the device and block it
        across = torch.cat([outside[..., :1], outside[..., 1:2].expand(-1, -1, width - 2), outside[..., 2:]], dim=2)
    else:
        across = outside
    gates[:, :, 0].sub_(across[:, 0])
    if height > 1:
        gates[:, :, -1].sub_(across[:, -1])
    gates[:, :, 1:-1, 0].sub_(outside[:, 1:2, 0])
    if width > 1:
        gates[:, :, 1:-1, -1].sub_(outside[:, 1:2, -1])
