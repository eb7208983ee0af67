"""Spatial component: residual invertible blocks (RIB), the ablations IB and RB, and stages of two parallel blocks.

It treats each frame separately: tensors are (N, C, H, W) with N = frames x batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ristn_cli.model.config import BlockKind, NormKind


def norm_and_relu(channels: int, norm: NormKind) -> list[nn.Module]:
    """Return the modules for ReLU, preceded by batch normalization if `norm` is `batch`."""
    return [*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU()]


def convolution(channels_in: int, channels_out: int, norm: NormKind, *, activate: bool = True) -> list[nn.Module]:
    """Return the modules of a 3x3 convolution preceded by normalization and ReLU (pre-activation, as in i-RevNet)."""
    before = norm_and_relu(channels_in, norm) if activate else []
    return [*before, nn.Conv2d(channels_in, channels_out, 3, padding=1)]


class ConvolutionalBottleneck(nn.Sequential):
    """The function F of Eq. 2: three 3x3 convolutions, `channels` > `width` > `width` > `channels` (Fig. 3).

    Normalization and ReLU precede each convolution, except the first one of a block (`first`). Without normalization,
    the last convolution is initialized to zero, so that a stack of any depth starts as the identity.
    """

    def __init__(self, channels: int, width: int, *, norm: NormKind, first: bool) -> None:
        super().__init__(
            *convolution(channels, width, norm, activate=not first),
            *convolution(width, width, norm),
            *convolution(width, channels, norm),
        )
        if norm == "none":
            last = self[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


class InvertibleBlock(nn.Module):
    """IB: additive coupling of two halves of the channels, which `inverse` undoes exactly (Eq. 2-4).

    Each step computes Y = X1 + F(X0), then (X0, X1) <- (Y, X0). This exchange is missing from Eq. 3-4 as printed, which
    would never change X0. It follows i-RevNet (Jacobsen et al.), on which the paper builds.
    """

    def __init__(self, channels: int, bottlenecks: int, *, divisor: int = 3, norm: NormKind = "batch") -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"an invertible block needs an even number of channels: {channels} is odd")
        half = channels // 2
        width = max(1, half // divisor)
        self.bottlenecks = nn.ModuleList(
            ConvolutionalBottleneck(half, width, norm=norm, first=index == 0) for index in range(bottlenecks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        x0, x1 = x.chunk(2, dim=1)
        for bottleneck in self.bottlenecks:
            x0, x1 = x1 + bottleneck(x0), x0
        return torch.cat([x0, x1], dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return the input that `forward` maps to `y` (Eq. 3-4)."""
        x0, x1 = y.chunk(2, dim=1)
        for bottleneck in reversed(self.bottlenecks):
            x0, x1 = x1, x0 - bottleneck(x1)
        return torch.cat([x0, x1], dim=1)


class ResidualInvertibleBlock(nn.Module):
    """RIB: the output [X0, X1] of an invertible block plus its input (Eq. 5)."""

    def __init__(self, channels: int, bottlenecks: int, *, divisor: int = 3, norm: NormKind = "batch") -> None:
        super().__init__()
        self.invertible = InvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.invertible(x) + x
        return y


class ResidualBlock(nn.Module):
    """RB of Table 1: residual bottlenecks over all channels, without the invertible structure.

    The paper gives neither the inner width nor the connections, only 6.08 M parameters for the whole network. An inner
    width of `RB_WIDTH` times the channels matches that count within 2 %.
    """

    RB_WIDTH = 0.63

    def __init__(self, channels: int, bottlenecks: int, *, norm: NormKind = "batch") -> None:
        super().__init__()
        width = max(1, int(channels * self.RB_WIDTH))
        self.bottlenecks = nn.ModuleList(
            ConvolutionalBottleneck(channels, width, norm=norm, first=index == 0) for index in range(bottlenecks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        for bottleneck in self.bottlenecks:
            x = x + bottleneck(x)
        return x


def make_block(kind: BlockKind, channels: int, bottlenecks: int, *, divisor: int, norm: NormKind) -> nn.Module:
    """Return a block of Table 1."""
    match kind:
        case "rib":
            return ResidualInvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)
        case "ib":
            return InvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)
        case "rb":
            return ResidualBlock(channels, bottlenecks, norm=norm)
    raise ValueError(f"unknown block {kind!r}: expected rib, ib or rb")


class SpatialComponent(nn.Module):
    """Pads RGB with zero channels to `base_channels`, then applies stages of two parallel blocks (Fig. 2).

    The outputs of the two blocks are concatenated, so every stage doubles the channels: 16 > 32 > 64 > 128 > 256 with
    the paper's four stages.
    """

    def __init__(
        self,
        base_channels: int,
        branch_one: Sequence[int],
        branch_two: Sequence[int],
        *,
        block: BlockKind,
        divisor: int,
        norm: NormKind,
    ) -> None:
        super().__init__()
        self.base_channels = base_channels
        self.out_channels = base_channels * 2 ** len(branch_one)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                make_block(block, base_channels * 2**stage, bottlenecks, divisor=divisor, norm=norm)
                for bottlenecks in pair
            )
            for stage, pair in enumerate(zip(branch_one, branch_two, strict=True))
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, `out_channels`, H, W)."""
        zeros = rgb.new_zeros(1).expand(rgb.shape[0], self.base_channels - 3, *rgb.shape[2:])
        x = torch.cat([rgb, zeros], dim=1).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            x = torch.cat([block(x) for block in stage], dim=1)
        return x
