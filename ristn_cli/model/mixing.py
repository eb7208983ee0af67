"""Mixing: maps the spatial features of all frames of a window to the fused features of each frame.

There are two kinds: `Recurrent`, the paper's temporal component and fusion, and `Pointwise`, which reads one frame at a
time. Tensors (T*B, C, H, W) are time-major: frame t of batch element b is at index t*B + b.
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
    """Return a context in which mixed precision is off. The `meta` device has no autocast."""
    is_available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if is_available else nullcontext()


class Mixing(ABC):
    """The layers between the spatial component and the upsampling.

    It is not a module itself. `RISTN` registers its parts directly, which keeps the tensor names of weights files.

    Attributes:
        parts: the modules by their names in `RISTN`, in the order of its parameters.
        last: the last module of the temporal component.
    """

    parts: dict[str, nn.Module]
    last: nn.Module

    @abstractmethod
    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        """Map the spatial features (T*B, C, H, W) of T = `frames` frames to fused features of the same shape."""

    @abstractmethod
    def sparsity_penalty(self) -> Tensor:
        """Return the sum of |SM| in Eq. 10, or zero without a sparse fusion."""

    def temporal_share(self, spatial: Tensor, frames: int) -> Tensor | None:
        """Return the share of the fused features' energy that comes from the temporal component, or None if there is no
        fusion of both.
        """
        return None

    def count_fused_macs(self) -> int:
        """Return the multiply-accumulates per LR pixel and frame that are not part of a convolution module."""
        return 0


class Recurrent(Mixing):
    """Temporal component and fusion. Eq. 6 to 8 are computed as one matrix product."""

    def __init__(self, config: RISTNConfig, channels: int) -> None:
        self.temporal = TemporalComponent(config, channels)
        fusion = TemporalOnly if config.fusion == "none" else SparseFusion
        self.fusion: Fusion = fusion(channels, self.temporal.out_channels)
        if config.gate_start == "delay_line":  # orthogonal maps preserve the energy of the temporal features
            nn.init.orthogonal_(self.fusion.mapping.weight)
            if isinstance(self.fusion, SparseFusion):
                nn.init.orthogonal_(self.fusion.matrix)
        self.is_sparse = config.fusion == "sparse"
        self.parts = {"temporal": self.temporal, "fusion": self.fusion}
        self.last = self.temporal.layers[-1]

    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        with without_autocast(spatial.device):  # the weights are multiplied with each other in full precision
            matrices, bias = self.fusion.fold(self.temporal.convert)
        x, hierarchy = self.temporal.read(spatial, frames)
        features = [hierarchy] + [x] * self.temporal.is_residual + [spatial] * self.fusion.reads_spatial
        return F.conv2d(torch.cat(features, dim=1), torch.cat(matrices, dim=1)[:, :, None, None], bias)

    def sparsity_penalty(self) -> Tensor:
        if self.is_sparse and isinstance(self.fusion, SparseFusion):
            return self.fusion.matrix.abs().sum()
        return self.fusion.mapping.weight.new_zeros(())

    def temporal_share(self, spatial: Tensor, frames: int) -> Tensor | None:
        if not isinstance(self.fusion, SparseFusion):
            return None
        return self.fusion.temporal_share(spatial, self.temporal(spatial, frames))

    def count_fused_macs(self) -> int:
        return sum(matrix.numel() for matrix in self.fusion.fold(self.temporal.convert)[0])


class Pointwise(Mixing):
    """Normalization, ReLU and a 1x1 convolution in place of the temporal component and the fusion (Table 1)."""

    def __init__(self, config: RISTNConfig, channels: int) -> None:
        self.mapping = nn.Sequential(*norm_and_relu(channels, config.norm), nn.Conv2d(channels, channels, 1))
        self.parts = {"mapping": self.mapping}
        self.last = self.mapping

    def __call__(self, spatial: Tensor, frames: int) -> Tensor:
        fused: Tensor = self.mapping(spatial)
        return fused

    def sparsity_penalty(self) -> Tensor:
        return next(self.mapping.parameters()).new_zeros(())
