"""Spatial component: residual invertible blocks (RIB), their ablations IB and RB, and the two-branch stack of them.

Knows nothing of time: every tensor is (N, C, H, W), N = frames x batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ristn_cli.model.config import BlockKind, NormKind


def norm_and_relu(channels: int, norm: NormKind) -> list[nn.Module]:
    """ReLU, with batch normalisation before it if the network has any."""
    return [*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU()]


def convolution(channels_in: int, channels_out: int, norm: NormKind, *, activate: bool = True) -> list[nn.Module]:
    """One 3x3 convolution preceded by normalisation and ReLU (pre-activation order, as i-RevNet's bottlenecks)."""
    before = norm_and_relu(channels_in, norm) if activate else []
    return [*before, nn.Conv2d(channels_in, channels_out, 3, padding=1)]


class ConvolutionalBottleneck(nn.Sequential):
    """F of Eq. 2: three 3x3 convolutions, `channels` > `width` > `width` > `channels` (Fig. 3).

    Each is preceded by normalisation and ReLU, save the very first of a block (`first`). Without normalisation the
    last convolution starts at zero, so that a stack of any depth starts as the identity.
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
    """IB: additive coupling over two halves of the channels, undone exactly by `inverse` (Eq. 2-4).

    Each step computes Y = X1 + F(X0), then (X0, X1) <- (Y, X0). Eq. 3-4 as printed have no such exchange, which would
    leave X0 untouched for ever; it is that of Jacobsen et al. (i-RevNet), which the paper builds on.
    """

    def __init__(self, channels: int, bottlenecks: int, *, divisor: int = 3, norm: NormKind = "batch") -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"an invertible block splits its channels in halves: {channels} is odd")
        half = channels // 2
        width = max(1, half // divisor)
        self.bottlenecks = nn.ModuleList(
            ConvolutionalBottleneck(half, width, norm=norm, first=index == 0) for index in range(bottlenecks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x0, x1 = x.chunk(2, dim=1)
        for bottleneck in self.bottlenecks:
            x0, x1 = x1 + bottleneck(x0), x0
        return torch.cat([x0, x1], dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """The input that `forward` maps to `y` (Eq. 3-4)."""
        x0, x1 = y.chunk(2, dim=1)
        for bottleneck in reversed(self.bottlenecks):
            x0, x1 = x1, x0 - bottleneck(x1)
        return torch.cat([x0, x1], dim=1)


class ResidualInvertibleBlock(nn.Module):
    """RIB: [X0, X1] of an invertible block + its input (Eq. 5)."""

    def __init__(self, channels: int, bottlenecks: int, *, divisor: int = 3, norm: NormKind = "batch") -> None:
        super().__init__()
        self.invertible = InvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y: Tensor = self.invertible(x) + x
        return y


class ResidualBlock(nn.Module):
    """RB of Table 1: residual bottlenecks over all channels, without the invertible structure.

    The paper gives neither their inner width nor their connections, only 6.08 M parameters for the whole network; an
    inner width of `RB_WIDTH` of the channels gives that count within 2 %.
    """

    RB_WIDTH = 0.63

    def __init__(self, channels: int, bottlenecks: int, *, norm: NormKind = "batch") -> None:
        super().__init__()
        width = max(1, int(channels * self.RB_WIDTH))
        self.bottlenecks = nn.ModuleList(
            ConvolutionalBottleneck(channels, width, norm=norm, first=index == 0) for index in range(bottlenecks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        for bottleneck in self.bottlenecks:
            x = x + bottleneck(x)
        return x


def make_block(kind: BlockKind, channels: int, bottlenecks: int, *, divisor: int, norm: NormKind) -> nn.Module:
    """The block of Table 1 that `kind` names."""
    match kind:
        case "rib":
            return ResidualInvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)
        case "ib":
            return InvertibleBlock(channels, bottlenecks, divisor=divisor, norm=norm)
        case "rb":
            return ResidualBlock(channels, bottlenecks, norm=norm)
    raise ValueError(f"unknown block {kind!r}: expected rib, ib or rb")


class SpatialComponent(nn.Module):
    """Zero padding of RGB to `base_channels`, then stages of two parallel blocks, their outputs concatenated (Fig. 2).

    Every stage doubles the channels: 16 > 32 > 64 > 128 > 256 with the paper's four.
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
        """(N, 3, H, W) to (N, `out_channels`, H, W)."""
        zeros = rgb.new_zeros(1).expand(rgb.shape[0], self.base_channels - 3, *rgb.shape[2:])
        x = torch.cat([rgb, zeros], dim=1).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            x = torch.cat([block(x) for block in stage], dim=1)
        return x
