"""Reconstruction component: fusion of spatial and temporal features, and deconvolutions to 4x the size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fusion(nn.Module):
    """Base of the fusions: a 1x1 convolution from the temporal features to the channels of the spatial features."""

    reads_spatial = False

    def __init__(self, spatial_channels: int, temporal_channels: int) -> None:
        super().__init__()
        self.mapping = nn.Conv2d(temporal_channels, spatial_channels, 1)

    def fold(self, convert: nn.Module) -> tuple[list[Tensor], Tensor]:
        """Return the weights that compute Eq. 6 to 8 in one product. All operations between them are linear.

        Args:
            convert: the 1x1 convolution W of Eq. 6. Any other module means that the pattern is not residual.

        Returns:
            A list of matrices (C, C') and a bias (C,). The matrices apply to [H0 .. H(n-1)], to Xin (if the pattern is
                residual) and to the spatial features (if `reads_spatial`), in this order.
        """
        weight, bias = self.mapping.weight[:, :, 0, 0], self.mapping.bias
        assert bias is not None
        if not isinstance(convert, nn.Conv2d):
            return [weight], bias
        assert convert.bias is not None
        return [weight, weight @ convert.weight[:, :, 0, 0]], bias + weight @ convert.bias


class SparseFusion(Fusion):
    """[W * temporal, spatial] x SM (Eq. 7-8): a 1x1 convolution, concatenation and a matrix SM (2C x C).

    The training loss adds the L1 penalty that makes SM sparse (Eq. 10). Without the penalty this is the paper's dense
    fusion (DF). The temporal path has no non-linearity, so its gradient cannot vanish there.
    """

    reads_spatial = True

    def __init__(self, spatial_channels: int, temporal_channels: int) -> None:
        super().__init__(spatial_channels, temporal_channels)
        self.matrix = nn.Parameter(torch.empty(2 * spatial_channels, spatial_channels))
        nn.init.uniform_(self.matrix, -((2 * spatial_channels) ** -0.5), (2 * spatial_channels) ** -0.5)

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Map spatial (N, C, H, W) and temporal features (N, C2, H, W) to (N, C, H, W)."""
        joined = torch.cat([self.mapping(temporal), spatial], dim=1)
        return F.conv2d(joined, self.matrix.t()[:, :, None, None])

    def fold(self, convert: nn.Module) -> tuple[list[Tensor], Tensor]:
        """As `Fusion.fold`, with SM: its upper half applies to the temporal features, its lower half to the spatial
        features.
        """
        matrices, bias = super().fold(convert)
        upper, lower = self.matrix.t().chunk(2, dim=1)
        return [*(upper @ matrix for matrix in matrices), lower], upper @ bias

    def temporal_share(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Return the share, in [0, 1], of the fused features' energy that comes from the temporal rows of SM."""
        mapped = self.mapping(temporal)
        upper, lower = self.matrix.t()[:, :, None, None].chunk(2, dim=1)
        from_temporal = F.conv2d(mapped, upper).float().square().mean()
        from_spatial = F.conv2d(spatial, lower).float().square().mean()
        return from_temporal / (from_temporal + from_spatial).clamp_min(1e-20)


class TemporalOnly(Fusion):
    """NF of Table 2: the temporal features only, mapped to the channels of the spatial features."""

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Map temporal features (N, C2, H, W) to (N, C, H, W); `spatial` gives no input."""
        mapped: Tensor = self.mapping(temporal)
        return mapped


class Reconstruction(nn.Module):
    """Two deconvolutions of stride 2 with ReLU, then a 3x3 convolution to RGB.

    The paper's text gives 3x3 deconvolution kernels, but the parameter count in its Table 1 only fits 2x2. With 2x2
    kernels no taps overlap, which avoids checkerboard patterns and equals a 1x1 convolution with pixel shuffle. The
    paper names no activation here. Without the ReLU the three layers would be one linear map.
    """

    def __init__(self, channels: int, upsampling_channels: Sequence[int], *, kernel: int, zero_start: bool) -> None:
        super().__init__()
        deconvolutions = []
        for width in upsampling_channels:
            deconvolutions.append(
                nn.ConvTranspose2d(channels, width, kernel, stride=2, padding=kernel - 2, output_padding=kernel - 2)
            )
            channels = width
        self.deconvolutions = nn.ModuleList(deconvolutions)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        if zero_start:
            assert self.last.bias is not None
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 3, 4H, 4W)."""
        for deconvolution in self.deconvolutions:
            x = F.relu(deconvolution(x))
        rgb: Tensor = self.last(x)
        return rgb
