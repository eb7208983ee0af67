"""A bidirectional ConvLSTM layer in the form it computes fastest in: steps in place, one direction after the other."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.fused import FusedConvolution
from ristn_cli.model.temporal import GATES, BidirectionalConvLSTM


def advance(ifo: Tensor, g: Tensor | None, half_cell: Tensor | None, hidden: Tensor) -> Tensor:
    """The part of a ConvLSTM step behind its convolutions.

    tanh costs a processor three times what a sigmoid does, so tanh(x) = 2 s(2x) - 1 takes its place, in float32, where
    it is exact near 0 too. The weights that make g are doubled for it, and cells are kept halved.

    Args:
        ifo: (B, 3*hidden, H, W), i, f, o, or with g behind them. It is overwritten.
        g: (B, hidden, H, W), doubled; None if `ifo` ends with it.
        half_cell: halved cells (B, hidden, H, W) in float32, or None for cells at rest.
        hidden: (B, hidden, H, W), where the hidden values are written to.

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
"""Kernels (gates*hidden, C, K, K) and biases (gates*hidden,) over the input, and kernels over the hidden values."""


class Direction(nn.Module):
    """One direction of a ConvLSTM layer. `advance` may be replaced by a compiled form of itself.

    Args:
        shares: of i, f, o and g, or of i, f, o and then of g.
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
        """Halved cells (B, hidden, H, W) in float32 after a frame, whose hidden values are written to `hidden`.

        `sums`, one tensor a share, come from the input and are overwritten. `state` is hidden values and cells of the
        frame before.
        """
        if state is not None:
            sums = [each.add_to(total, state[0]) for each, total in zip(self.of_hidden, sums, strict=True)]  # type: ignore[operator]
        return self.advance(sums[0], sums[1] if len(sums) > 1 else None, None if state is None else state[1], hidden)


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
    """One bidirectional ConvLSTM layer.

    Args:
        trained: the layer.
        entry: a 1x1 convolution before it, which is folded into it; None for none.
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
            if entry is not None and of_input.kernel_size == (3, 3):  # 1x1 gates do not reach past a border
                self.missing[str(index)] = nn.Parameter(missing)
        halves = zip(*(zip(*(part.chunk(2) for part in share), strict=True) for share in shares), strict=True)
        self.directions = nn.ModuleList(Direction(*half) for half in halves)

    def forward(self, read: Sequence[Tensor], frames: int) -> list[Tensor]:
        """Hidden values (T*B, hidden, H, W) of the forward direction and of the backward one.

        Args:
            read: tensors (T*B, C, H, W) that stand one behind the other in what the layer reads.
            frames: T.
        """
        height, width = read[0].shape[2:]
        borders = {
            int(index): border_shares(missing, height, width, read[0].dtype) for index, missing in self.missing.items()
        }
        return [self._run(index, read, frames, borders) for index in range(2)]

    def _run(self, index: int, read: Sequence[Tensor], frames: int, borders: dict[int, Tensor]) -> Tensor:
        """One direction's hidden values; 0 runs forward, 1 backward. `borders` are those of the shares that have any.

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
            sums = [convolution(x) for convolution in direction.of_input]
            for share, border in borders.items():
                take_from_borders(sums[share], border.chunk(2)[index])
            state = made, direction.step(sums, state, made)
        return hidden


def fold_entry(convolution: nn.Conv2d, entry: nn.Conv2d | None) -> tuple[Tensor, Tensor, Tensor]:
    """Kernels and biases, in float64, of a convolution with a 1x1 convolution before it folded into its product.

    The third result is what each tap (C, K, K) brings of the 1x1 convolution's bias. Beyond the frame that bias is not
    there, so it is to be taken away at the borders. Zeros, in float32 as all of it, without such a convolution.
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
