"""The whole network."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.config import SCALE, RISTNConfig
from ristn_cli.model.mixing import Mixing, Pointwise, Recurrent
from ristn_cli.model.reconstruction import Reconstruction
from ristn_cli.model.spatial import ResidualInvertibleBlock, SpatialComponent
from ristn_cli.model.temporal import BidirectionalConvLSTM


def bicubic_upsample(frames: Tensor) -> Tensor:
    """Upscale (N, 3, H, W) to (N, 3, 4H, 4W) with the bicubic kernel of Pillow and MATLAB (a = -0.5)."""
    return F.interpolate(frames, scale_factor=SCALE, mode="bicubic", antialias=True)


def normalize_rgb(rgb: Tensor) -> Tensor:
    """Map RGB from [0, 1] to [-2, 2]. Apply it in float32, to lose less precision in a later conversion to half
    precision.
    """
    return rgb * 4 - 2


class RISTN(nn.Module):
    """Residual Invertible Spatio-Temporal Network (Zhu, Li, Zhang et al., AAAI 2019): N frames in, N frames out.

    The paper's network has "more than 130 convolutional layers". The longest path from input to output has 134: 108 in
    the spatial component, the 1x1 convolution W, two in each of ten ConvLSTM layers (over the input and over the
    previous frame's hidden values), the fusion's mapping and SM, two deconvolutions and the last convolution.

    Attributes:
        config: the configuration.
        detail: share of the second of two sets of weights that were interpolated; 0 for a single set.
    """

    def __init__(self, config: RISTNConfig) -> None:
        super().__init__()
        self.config = config
        self.detail = 0.0
        self.spatial = SpatialComponent(
            config.base_channels,
            config.branch_one,
            config.branch_two,
            block=config.block,
            divisor=config.bottleneck_divisor,
            norm=config.norm,
        )
        channels = self.spatial.out_channels
        self.mixing: Mixing = Recurrent(config, channels) if config.lstm_layers else Pointwise(config, channels)
        for name, part in self.mixing.parts.items():
            self.add_module(name, part)
        self.refine: nn.Module = nn.Identity()
        if config.refine_bottlenecks:
            self.refine = ResidualInvertibleBlock(
                channels, config.refine_bottlenecks, divisor=config.bottleneck_divisor, norm=config.norm
            )
        self.reconstruction = Reconstruction(
            channels,
            config.upsampling_channels,
            kernel=config.deconvolution_kernel,
            zero_start=config.global_skip,
        )

    def forward(self, lr: Tensor, keep: slice | Sequence[int] = slice(None)) -> Tensor:
        """Upscale a window of frames.

        Args:
            lr: (B, T, 3, H, W) RGB in [0, 1], with T, H, W >= 1. Pass float32 even to half-precision weights: the
                global skip keeps the precision of `lr`.
            keep: the frames to reconstruct. The other frames are context.

        Returns:
            (B, T', 3, 4H, 4W) in the dtype of `lr`, not clamped to [0, 1].
        """
        batch, frames = lr.shape[:2]
        time_major = lr.transpose(0, 1)  # (T, B, 3, H, W)
        spatial = self.spatial_features(time_major.flatten(0, 1))  # (T*B, C, H, W)
        fused = self.mixing(spatial, frames).unflatten(0, (frames, batch))  # type: ignore[no-untyped-call]
        keep = keep if isinstance(keep, slice) else list(keep)
        kept = fused[keep].flatten(0, 1)  # (T'*B, C, H, W)
        sr: Tensor = self.reconstruction(self.refine(kept)).to(lr.dtype)
        if self.config.global_skip:
            sr = sr + bicubic_upsample(time_major[keep].flatten(0, 1))
        return sr.view(-1, batch, *sr.shape[1:]).transpose(0, 1)

    def spatial_features(self, rgb: Tensor) -> Tensor:
        """Return the spatial features (N, C, H, W), in the dtype of the weights, of frames (N, 3, H, W) in [0, 1]."""
        rgb = normalize_rgb(rgb) if self.config.normalize_input else rgb
        features: Tensor = self.spatial(rgb.to(self.reconstruction.last.weight.dtype))
        return features

    def stage_ends(self) -> tuple[nn.Module, nn.Module]:
        """Return the last module of the spatial component and of the temporal component."""
        return self.spatial, self.mixing.last

    def sparsity_penalty(self) -> Tensor:
        """Return the sum of |SM| in Eq. 10, or zero without a sparse fusion.

        Eq. 10 adds lambda times this penalty to a sum of squared errors. The training loss uses the mean over all N
        values of a window instead, so that its scale does not depend on the patch size. The same lambda therefore
        weighs N times as much: the paper's 5e-7, with 5 frames of 200x200 pixels (N = 600,000), acts like 0.3 beside
        the sum.
        """
        return self.mixing.sparsity_penalty()

    @torch.no_grad()
    def temporal_share(self, lr: Tensor) -> float | None:
        """Return the share of the fused features' energy that comes from the temporal component, or None without such a
        fusion.
        """
        share = self.mixing.temporal_share(self.spatial_features(lr.transpose(0, 1).flatten(0, 1)), lr.shape[1])
        return None if share is None else float(share)

    def count_parameters(self) -> int:
        """Return the number of learned values, without the running statistics of normalizations."""
        return sum(parameter.numel() for parameter in self.parameters())


def count_macs(config: RISTNConfig) -> int:
    """Return the multiply-accumulates per LR pixel and frame of all convolutions.

    W of Eq. 6, the fusion's mapping and SM count as one product, as they are computed.
    """
    with torch.device("meta"):
        model = RISTN(config)
        size, frames = 8, 2
        total = 0

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal total
            if isinstance(module, nn.ConvTranspose2d):  # every input value is multiplied by every tap
                total += inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3] * module.weight.numel()
            elif isinstance(module, nn.Conv2d):
                total += output.shape[0] * output.shape[2] * output.shape[3] * module.weight.numel()

        for module in model.modules():
            module.register_forward_hook(count)
        model(torch.empty(1, frames, 3, size, size))
        total += frames * size**2 * model.mixing.count_fused_macs()
    # The first frame of a window needs no hidden convolutions. Count them for every frame.
    layers = [module for module in model.modules() if isinstance(module, BidirectionalConvLSTM)]
    hidden = sum(of_hidden.weight.numel() for layer in layers for _, of_hidden in layer.convolutions())
    return round(total / (size * size * frames)) + hidden // frames
