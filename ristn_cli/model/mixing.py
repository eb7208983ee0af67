"""Mixing: from the spatial features of all frames of a window to the fused features of each frame.

Two kinds: recurrent, the paper's temporal component and fusion, and pointwise, which sees one frame at a time.
Frames are time-major: a tensor (T*B, C, H, W) holds frame t of batch element b at t*B + b.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.config import RISTNConfig
from ristn_cli.model.reconstruction import Fusion, SparseFusion, TemporalOnly
from ristn_cli.model.spatial import norm_and_relu
from ristn_cli.model.temporal import TemporalComponent


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Full precision where mixed precision may be on; the `meta` device knows none."""
    is_available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if is_available else nullcontext()


class Mixing(ABC):
    """What stands between the spatial component and the upsampling.

    Not a module itself: `RISTN` registers its parts, so that tensors keep the names that weights files know.

    Attributes:
        parts: the modules by their names in `RISTN`, in the order of its parameters.
        last: the module whose end is the end of the temporal component.
    """

    parts: dict[str, nn.Module]
    last: nn.Module

    @abstractmethod
    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        """Spatial features (T*B, C, H, W) of T = `frames` frames to fused features of the same shape."""

    @abstractmethod
    def sparsity_penalty(self) -> Tensor:
        """The sum |SM| of Eq. 10; zero without a sparse fusion."""

    def temporal_share(self, spatial: Tensor, frames: int) -> Tensor | None:
        """Share of the fused features' energy that comes from the temporal component; None where no fusion has it."""
        return None

    def count_fused_macs(self) -> int:
        """Multiply-accumulates per LR pixel and frame that no convolution module computes."""
        return 0


class Recurrent(Mixing):
    """Temporal component and fusion, with Eq. 6 to 8 computed as one product."""

    def __init__(self, config: RISTNConfig, channels: int) -> None:
        self.temporal = TemporalComponent(config, channels)
        fusion = TemporalOnly if config.fusion == "none" else SparseFusion
        self.fusion: Fusion = fusion(channels, self.temporal.out_channels)
        if config.gate_start == "delay_line":  # what the delay line brings must not fade on its way
            nn.init.orthogonal_(self.fusion.mapping.weight)
            if isinstance(self.fusion, SparseFusion):
                nn.init.orthogonal_(self.fusion.matrix)
        self.is_sparse = config.fusion == "sparse"
        self.parts = {"temporal": self.temporal, "fusion": self.fusion}
        self.last = self.temporal.layers[-1]

    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        """As of `Mixing`."""
        with without_autocast(spatial.device):  # the weights are multiplied, in full precision, not the features
            matrices, bias = self.fusion.fold(self.temporal.convert)
        x, hierarchy = self.temporal.read(spatial, frames)
        features = [hierarchy] + [x] * self.temporal.is_residual + [spatial] * self.fusion.reads_spatial
        return F.conv2d(torch.cat(features, dim=1), torch.cat(matrices, dim=1)[:, :, None, None], bias)

    def sparsity_penalty(self) -> Tensor:
        """As of `Mixing`."""
        if self.is_sparse and isinstance(self.fusion, SparseFusion):
            return self.fusion.matrix.abs().sum()
        return self.fusion.mapping.weight.new_zeros(())

    def temporal_share(self, spatial: Tensor, frames: int) -> Tensor | None:
        """As of `Mixing`."""
        if not isinstance(self.fusion, SparseFusion):
            return None
        return self.fusion.temporal_share(spatial, self.temporal(spatial, frames))

    def count_fused_macs(self) -> int:
        """As of `Mixing`."""
        return sum(matrix.numel() for matrix in self.fusion.fold(self.temporal.convert)[0])


class Pointwise(Mixing):
    """Normalisation, ReLU and a 1x1 convolution instead of temporal component and fusion (Table 1)."""

    def __init__(self, config: RISTNConfig, channels: int) -> None:
        self.mapping = nn.Sequential(*norm_and_relu(channels, config.norm), nn.Conv2d(channels, channels, 1))
        self.parts = {"mapping": self.mapping}
        self.last = self.mapping

    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        """As of `Mixing`; every frame is mapped on its own."""
        fused: Tensor = self.mapping(spatial)
        return fused

    def sparsity_penalty(self) -> Tensor:
        """As of `Mixing`."""
        return next(self.mapping.parameters()).new_zeros(())
