"""RISTN: the whole network, its configuration and its named sizes."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.reconstruction import Reconstruction, SparseFusion, TemporalOnly
from ristn_cli.model.spatial import BlockKind, NormKind, ResidualInvertibleBlock, SpatialComponent
from ristn_cli.model.temporal import BidirectionalConvLSTM, GateStart, TemporalComponent, TemporalPattern
from ristn_cli.typed import build

FusionKind = Literal["sparse", "dense", "none"]

SCALE = 4

MOST_STAGES = 6
MOST_CHANNELS = 2048
MOST_LAYERS = 256
"""A configuration may come from a file of strangers. Even a network that is never filled takes time to describe."""


@dataclass(frozen=True, kw_only=True)
class RISTNConfig:
    """Every width and depth of the network. The defaults are the paper's ("Implementation details").

    Attributes:
        base_channels: channels that RGB is zero-padded to.
        branch_one: bottlenecks of each block of the first branch, one a stage.
        branch_two: the same for the second branch.
        block: spatial block: `rib`, or Table 1's ablations `ib` and `rb`.
        bottleneck_divisor: a bottleneck's inner width is half the block's channels divided by this, rounded down.
        norm: `batch`, or `none`.
        pattern: connections of the ConvLSTM layers: `c`, `rc`, `dc`, `rdc` (Fig. 4).
        lstm_layers: bidirectional ConvLSTM layers; 0 puts a 1x1 convolution in the place of the temporal component and
            the fusion, which is the single-image network of Table 1.
        growth: channels of each direction of a ConvLSTM layer.
        gate_kernel: 3, the paper's, or 1 for gates by 1x1 convolutions and the candidate alone by 3x3.
        dense_input: every ConvLSTM layer reads the spatial features too, not the first one alone (dense patterns).
        gate_start: initial gates, `uniform`, or `delay_line` with orthogonal maps around the temporal component.
        fusion: `sparse`, or Table 2's `dense` (DF) and `none` (NF).
        refine_bottlenecks: bottlenecks of a RIB between fusion and upsampling; 0, the paper's, leaves it out.
        upsampling_channels: maps of the two deconvolutions.
        deconvolution_kernel: 3 as the paper's text says, or 2 as its parameter count says.
        normalize_input: RGB is centred on zero and scaled to [-2, 2] before it is zero-padded.
        global_skip: add the bicubic 4x of the frame to the output; the last convolution then starts at zero.
    """

    base_channels: int = 16
    branch_one: tuple[int, ...] = (6, 8, 10, 10)
    branch_two: tuple[int, ...] = (6, 6, 12, 6)
    block: BlockKind = "rib"
    bottleneck_divisor: int = 3
    norm: NormKind = "batch"
    pattern: TemporalPattern = "rdc"
    lstm_layers: int = 10
    growth: int = 16
    gate_kernel: int = 3
    dense_input: bool = False
    gate_start: GateStart = "uniform"
    fusion: FusionKind = "sparse"
    refine_bottlenecks: int = 0
    upsampling_channels: tuple[int, int] = (256, 256)
    deconvolution_kernel: int = 3
    normalize_input: bool = False
    global_skip: bool = False

    def __post_init__(self) -> None:
        stages, widths = len(self.branch_one), (self.base_channels, self.growth, *self.upsampling_channels)
        depths = (self.lstm_layers, self.refine_bottlenecks, *self.branch_one, *self.branch_two)
        if max(stages, len(self.branch_two)) > MOST_STAGES or max(widths) > MOST_CHANNELS or max(depths) > MOST_LAYERS:
            raise ValueError(
                f"the network is too large: expected at most {MOST_STAGES} stages, {MOST_CHANNELS} channels and "
                f"{MOST_LAYERS} layers of a kind"
            )
        if stages != len(self.branch_two):
            raise ValueError(f"branches of {len(self.branch_one)} and {len(self.branch_two)} stages: expected as many")
        if self.base_channels < 4 or self.base_channels % 2:
            raise ValueError(f"base_channels {self.base_channels}: expected an even number of at least 4")
        if min(self.lstm_layers, self.refine_bottlenecks, *self.branch_one, *self.branch_two) < 0:
            raise ValueError("a component cannot have fewer than 0 layers")
        if len(self.upsampling_channels) != 2:
            raise ValueError(f"upsampling_channels {self.upsampling_channels}: expected two, one a deconvolution")
        if min(self.growth, self.bottleneck_divisor, *self.upsampling_channels) < 1:
            raise ValueError("growth, bottleneck_divisor and upsampling_channels are at least 1")
        if self.deconvolution_kernel not in (2, 3):
            raise ValueError(f"deconvolution_kernel {self.deconvolution_kernel}: expected 2 or 3")
        if self.gate_kernel not in (1, 3):
            raise ValueError(f"gate_kernel {self.gate_kernel}: expected 1 or 3")
        if self.dense_input and self.pattern not in ("dc", "rdc"):
            raise ValueError(f"dense_input needs a dense pattern, dc or rdc, not {self.pattern!r}")
        for name, kinds in (
            ("block", BlockKind),
            ("norm", NormKind),
            ("pattern", TemporalPattern),
            ("gate_start", GateStart),
            ("fusion", FusionKind),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: expected {' or '.join(get_args(kinds))}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored with weights."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RISTNConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: an unknown field, or a value of another type or range.
        """
        config: RISTNConfig = build(cls, values)
        return config

    def receptive_field(self, frames: int = 1) -> int:
        """Largest distance in LR pixels at which an input pixel can change an output, in a window of `frames` frames.

        A bound on what the connections allow: what trained gates carry over many frames is far less.
        """
        per_bottleneck = 3
        spatial = per_bottleneck * sum(map(max, self.branch_one, self.branch_two))
        # A layer reaches one pixel by its input's gates and one more for every frame it goes on. Each can cross the
        # whole window, one forward, the next backward.
        temporal = self.lstm_layers * frames
        refine = per_bottleneck * self.refine_bottlenecks
        # One pixel of the HR frame, by the last convolution; deconvolutions of 3 do not reach past the same LR pixel.
        upsampling = 1
        return max(spatial + temporal + refine + upsampling, 2 if self.global_skip else 0)


CONFIGS = {
    "paper": RISTNConfig(),
    "ristn": RISTNConfig(
        branch_one=(2, 3, 4),
        branch_two=(2, 2, 5),
        bottleneck_divisor=1,
        norm="none",
        lstm_layers=6,
        growth=24,
        gate_start="delay_line",
        refine_bottlenecks=10,
        upsampling_channels=(128, 64),
        deconvolution_kernel=2,
        global_skip=True,
    ),
    "ristn-lite": RISTNConfig(
        branch_one=(1, 2),
        branch_two=(1, 2),
        bottleneck_divisor=1,
        norm="none",
        lstm_layers=4,
        growth=16,
        gate_start="delay_line",
        refine_bottlenecks=10,
        upsampling_channels=(64, 32),
        deconvolution_kernel=2,
        global_skip=True,
    ),
}


def bicubic_upsample(frames: Tensor) -> Tensor:
    """(N, 3, H, W) to (N, 3, 4H, 4W) by the bicubic kernel with a = -0.5, as Pillow and MATLAB have it."""
    return F.interpolate(frames, scale_factor=SCALE, mode="bicubic", antialias=True)


def normalize_rgb(rgb: Tensor) -> Tensor:
    """RGB in [0, 1] centred on zero and scaled to [-2, 2]. In float32 half precision then loses less of it."""
    return rgb * 4 - 2


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Full precision where mixed precision may be on; the `meta` device knows none."""
    is_available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if is_available else nullcontext()


class RISTN(nn.Module):
    """Residual Invertible Spatio-Temporal Network (Zhu, Li, Zhang et al., AAAI 2019), many frames to as many."""

    def __init__(self, config: RISTNConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial = SpatialComponent(
            config.base_channels,
            config.branch_one,
            config.branch_two,
            block=config.block,
            divisor=config.bottleneck_divisor,
            norm=config.norm,
        )
        channels = self.spatial.out_channels
        self.temporal: TemporalComponent | None = None
        self.fusion: SparseFusion | TemporalOnly | None = None
        self.mapping: nn.Module | None = None
        if config.lstm_layers == 0:
            normalisation = [nn.BatchNorm2d(channels)] if config.norm == "batch" else []
            self.mapping = nn.Sequential(*normalisation, nn.ReLU(), nn.Conv2d(channels, channels, 1))
        else:
            self.temporal = TemporalComponent(
                channels,
                layers=config.lstm_layers,
                growth=config.growth,
                pattern=config.pattern,
                norm=config.norm,
                start=config.gate_start,
                gate_kernel=config.gate_kernel,
                dense_input=config.dense_input,
            )
            fusion = TemporalOnly if config.fusion == "none" else SparseFusion
            self.fusion = fusion(channels, self.temporal.out_channels)
            if config.gate_start == "delay_line":  # what the delay line brings must not fade on its way
                nn.init.orthogonal_(self.fusion.mapping.weight)
                if isinstance(self.fusion, SparseFusion):
                    nn.init.orthogonal_(self.fusion.matrix)
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

    def forward(self, lr: Tensor, keep: slice = slice(None)) -> Tensor:
        """Upscale a window of frames.

        Args:
            lr: (B, T, 3, H, W) RGB in [0, 1]; any T, H, W >= 1. Kept in float32 it reaches the output so through the
                global skip, whatever the precision of the weights.
            keep: the frames of the window to reconstruct; the others are read only.

        Returns:
            (B, T', 3, 4H, 4W) in the dtype of `lr`, not clamped to [0, 1].
        """
        batch, frames = lr.shape[:2]
        time_major = lr.transpose(0, 1).flatten(0, 1)  # (T*B, 3, H, W)
        features = self.features(time_major, frames)
        kept = features.view(frames, batch, *features.shape[1:])[keep].flatten(0, 1)
        sr: Tensor = self.reconstruction(self.refine(kept)).to(lr.dtype)
        if self.config.global_skip:
            sr = sr + bicubic_upsample(lr.transpose(0, 1)[keep].flatten(0, 1))
        return sr.view(-1, batch, *sr.shape[1:]).transpose(0, 1)

    def spatial_features(self, rgb: Tensor) -> Tensor:
        """Spatial features (N, C, H, W), in the dtype of the weights, of frames (N, 3, H, W) in [0, 1]."""
        rgb = normalize_rgb(rgb) if self.config.normalize_input else rgb
        features: Tensor = self.spatial(rgb.to(self.reconstruction.last.weight.dtype))
        return features

    def features(self, time_major: Tensor, frames: int) -> Tensor:
        """Fused features (T*B, C, H, W) of RGB frames (T*B, 3, H, W)."""
        spatial = self.spatial_features(time_major)
        if self.mapping is not None:
            mapped: Tensor = self.mapping(spatial)
            return mapped
        assert self.temporal is not None and self.fusion is not None
        # Eq. 6 to 8 in one product: their weights are multiplied, in full precision, instead of the features.
        with without_autocast(spatial.device):
            folded = self.fusion.fold(self.temporal.convert)
        x, hierarchy = self.temporal.read(spatial, frames)
        read = ((hierarchy, folded.hierarchy), (x, folded.x), (spatial, folded.spatial))
        features, weights = zip(*((part, weight) for part, weight in read if weight is not None), strict=True)
        return F.conv2d(torch.cat(features, dim=1), torch.cat(weights, dim=1)[:, :, None, None], folded.bias)

    def sparsity_penalty(self) -> Tensor:
        """The sum |SM| of Eq. 10; zero where the fusion is not sparse."""
        if self.config.fusion == "sparse" and isinstance(self.fusion, SparseFusion):
            return self.fusion.matrix.abs().sum()
        return self.reconstruction.last.weight.new_zeros(())

    @torch.no_grad()
    def temporal_share(self, lr: Tensor) -> float | None:
        """Share of the fused features' energy that came from the temporal component; None without such a fusion."""
        if self.temporal is None or not isinstance(self.fusion, SparseFusion):
            return None
        frames = lr.shape[1]
        spatial = self.spatial_features(lr.transpose(0, 1).flatten(0, 1))
        return float(self.fusion.temporal_share(spatial, self.temporal(spatial, frames)))

    def count_parameters(self) -> int:
        """Learned values, the normalisations' running statistics not counted."""
        return sum(parameter.numel() for parameter in self.parameters())


def count_macs(config: RISTNConfig) -> int:
    """Multiply-accumulates per LR pixel and frame of all convolutions, counted on the `meta` device.

    Eq. 6's W, the fusion's mapping and SM count as the one product that they are computed as.
    """
    with torch.device("meta"):
        model = RISTN(config)
        size, frames = 8, 2
        total = 0

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal total
            if isinstance(module, nn.ConvTranspose2d):  # every input value meets every tap
                total += inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3] * module.weight.numel()
            elif isinstance(module, nn.Conv2d):
                total += output.shape[0] * output.shape[2] * output.shape[3] * module.weight.numel()

        for module in model.modules():
            module.register_forward_hook(count)
        model(torch.empty(1, frames, 3, size, size))
        if model.temporal is not None and model.fusion is not None:
            folded = model.fusion.fold(model.temporal.convert)
            total += frames * size**2 * sum(part.numel() for part in folded if part is not None and part.dim() == 2)
    # The hidden share of the gates is not computed for the first frame of a window: count it for every frame.
    layers = [module for module in model.modules() if isinstance(module, BidirectionalConvLSTM)]
    recurrent = [each for layer in layers for each in (layer.hidden_gates, layer.hidden_candidate) if each is not None]
    hidden = sum(each.weight.numel() for each in recurrent)
    return round(total / (size * size * frames)) + hidden // frames
