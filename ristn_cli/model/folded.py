"""The folded network: the same function as a trained `RISTN`, computed with fewer and larger operations.

It is built once from trained weights. Consecutive linear operations become one convolution. Batch normalization is
folded into neighbouring convolutions; activations and sums are computed in the convolution before them. The widest
feature map is computed in strips of rows.

Only the architecture of the released networks is supported: RIB blocks, residual dense ConvLSTM layers and a fusion
that reads the spatial features. Other configurations run as they were trained.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.model.config import SCALE, RISTNConfig
from ristn_cli.model.fused import Deconvolution, FusedConvolution, PhasedConvolution, to_compute_dtype
from ristn_cli.model.mixing import Recurrent
from ristn_cli.model.reconstruction import Reconstruction
from ristn_cli.model.recurrence import Layer
from ristn_cli.model.ristn import RISTN, bicubic_upsample, normalize_rgb
from ristn_cli.model.spatial import ConvolutionalBottleneck, ResidualInvertibleBlock, SpatialComponent

STRIP_VALUES = 1 << 22
"""Size of a strip of the widest feature map, in values: 8 MiB in half precision, which stay in a processor's cache."""


def can_fold(config: RISTNConfig) -> bool:
    """Return whether a network of this configuration has a folded form."""
    is_recurrent = config.lstm_layers > 0 and config.pattern == "rdc" and config.fusion != "none"
    return is_recurrent and config.block == "rib"


def inference_form(trained: RISTN) -> "FoldedRISTN | RISTN":
    """Return a copy of the network for inference: folded if `can_fold`, else unchanged.

    Both forms have the same interface. They compute on the device and in the dtype they are moved to.
    """
    if can_fold(trained.config):
        return FoldedRISTN(trained)
    return copy.deepcopy(trained).eval().requires_grad_(False)


def norm_as_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the scale and shift (C,) in float64 that a batch normalization applies at inference."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


class Bottleneck(nn.Module):
    """The function F of Eq. 2. Its last convolution adds the result to the other half of the invertible block."""

    def __init__(self, trained: ConvolutionalBottleneck) -> None:
        super().__init__()
        convolutions = [module for module in trained if isinstance(module, nn.Conv2d)]
        norms = [norm_as_affine(module) for module in trained if isinstance(module, nn.BatchNorm2d)]
        self.entry: nn.Module = nn.Identity() if isinstance(trained[0], nn.Conv2d) else nn.ReLU()
        # If the block starts with a convolution, the first normalization belongs to the second convolution.
        at_entry = norms.pop(0) if isinstance(trained[0], nn.BatchNorm2d) else None
        if at_entry is not None:
            self.entry = Floor(*at_entry) if bool((at_entry[0] > 0).all()) else NormAndReLU(*at_entry)
        fused = []
        for index, convolution in enumerate(convolutions):
            assert convolution.bias is not None
            weight, bias = convolution.weight.double(), convolution.bias.double()
            padding = None
            if index == 0 and at_entry is not None and isinstance(self.entry, Floor):
                scale, shift = at_entry
                weight, bias, padding = weight * scale[:, None, None], bias + weight.sum((2, 3)) @ shift, 0
            if index < len(norms):  # the normalization of the next convolution directly follows this one
                scale, shift = norms[index]
                weight, bias = weight * scale[:, None, None, None], bias * scale + shift
            is_last = index == len(convolutions) - 1
            fused.append(FusedConvolution(weight.float(), bias.float(), relu=not is_last, padding=padding))
        self.convolutions = nn.ModuleList(fused)

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """Add F(x) to `total` in place and return it. Both are (N, C, H, W)."""
        x = self.entry(x)
        *before, last = self.convolutions
        for convolution in before:
            x = convolution(x)
        assert isinstance(last, FusedConvolution)
        return last.add_to(total, x)


class NormAndReLU(nn.Module):
    """Batch normalization and ReLU, where no convolution precedes them directly."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.float()[:, None, None])
        self.shift = nn.Parameter(shift.float()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(torch.addcmul(self.shift, x, self.scale))


class Floor(nn.Module):
    """Batch normalization and ReLU before a 3x3 convolution, in one pass: relu(a x + b) = a max(x, -b/a) + b for a > 0.

    This module computes max(x, -b/a). The following convolution absorbs a and b in its weights. Its zero padding is
    replaced by padding with -b/a here, where a x + b is zero.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.bound = nn.Parameter((-shift / scale).float()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H+2, W+2)."""
        batch, channels, height, width = x.shape
        shape = (batch, channels, height + 2, width + 2)
        made = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        torch.maximum(x, self.bound, out=made[:, :, 1:-1, 1:-1])
        for edge in (made[:, :, :1], made[:, :, -1:], made[..., :1], made[..., -1:]):
            edge.copy_(self.bound)
        return made


class Block(nn.Module):
    """A RIB that adds in place, on its own copies of the two halves."""

    def __init__(self, trained: ResidualInvertibleBlock) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(Bottleneck(b) for b in trained.invertible.bottlenecks)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape. `x` is not modified."""
        x0, x1 = (half.contiguous(memory_format=torch.channels_last) for half in x.chunk(2, dim=1))
        if x0.data_ptr() == x.data_ptr():  # `contiguous` returned a view of `x`
            x0, x1 = x0.clone(), x1.clone()
        for bottleneck in self.bottlenecks:
            assert isinstance(bottleneck, Bottleneck)
            x0, x1 = bottleneck.add_to(x1, x0), x0
        return torch.cat([x0, x1], dim=1).add_(x)


class Spatial(nn.Module):
    """Zero padding of the channels, and stages of two parallel blocks."""

    def __init__(self, trained: SpatialComponent) -> None:
        super().__init__()
        self.base_channels = trained.base_channels
        stages = (stage.children() for stage in trained.stages)
        self.stages = nn.ModuleList(nn.ModuleList(Block(block) for block in stage) for stage in stages)  # type: ignore[arg-type]

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W), channels last."""
        x = F.pad(rgb, (0, 0, 0, 0, 0, self.base_channels - 3)).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            x = torch.cat([block(x) for block in stage], dim=1)
        return x


class Features(nn.Module):
    """Temporal component and fusion: maps spatial features to fused features."""

    def __init__(self, trained: Recurrent) -> None:
        super().__init__()
        temporal, convert = trained.temporal, trained.temporal.convert
        assert isinstance(convert, nn.Conv2d)
        self.dense_input = temporal.dense_input
        norm = temporal.before[0]
        self.entry: nn.Module = NormAndReLU(*norm_as_affine(norm)) if isinstance(norm, nn.BatchNorm2d) else nn.ReLU()
        self.layers = nn.ModuleList(
            Layer(layer, None if index or self.dense_input else convert)  # type: ignore[arg-type]
            for index, layer in enumerate(temporal.layers)
        )
        matrices, bias = copy.deepcopy(trained.fusion).double().fold(copy.deepcopy(convert).double())
        self.fusion = FusedConvolution(torch.cat(matrices, dim=1).float()[:, :, None, None], bias.float())

    def forward(self, spatial: Tensor, frames: int, keep: Sequence[int]) -> Tensor:
        """Map (T*B, C, H, W) to fused features of the same shape; only those of the frames in `keep` are made."""
        entering: Tensor = self.entry(spatial)
        outputs: list[Tensor] = []
        for layer in self.layers:
            outputs += layer([entering, *outputs] if self.dense_input or not outputs else outputs, frames)
        joined = [*outputs, entering, spatial]
        by_frame = list(zip(*(part.chunk(frames) for part in (entering, *joined)), strict=True))
        for made, *parts in (by_frame[index] for index in keep):
            made.copy_(self.fusion(torch.cat(parts, dim=1)))  # reuses the memory of `entering`
        return entering


class Upsampling(nn.Module):
    """The deconvolutions and the last convolution, computed in strips of rows to limit memory."""

    HALO = 1
    """Additional LR rows that a strip reads on each side, because the last convolution reads one more HR pixel."""

    def __init__(self, trained: Reconstruction) -> None:
        super().__init__()
        self.deconvolutions = nn.ModuleList(Deconvolution(each) for each in trained.deconvolutions)  # type: ignore[arg-type]
        self.last = PhasedConvolution(trained.last)

    def strips(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the first LR row and the RGB output (N, 3, 4h, 4W) of each strip of the features (N, C, H, W)."""
        batch, _, height, width = x.shape
        rows = max(8, STRIP_VALUES // (batch * width * SCALE**2 * self.last.channels))
        for start in range(0, height, rows):
            above, below = min(start, self.HALO), min(max(height - start - rows, 0), self.HALO)
            strip = to_compute_dtype(x[:, :, start - above : start + rows + below])
            for deconvolution in self.deconvolutions:
                strip = deconvolution(strip)
            rgb: Tensor = self.last(strip)
            yield start, rgb[:, :, 4 * above : rgb.shape[2] - 4 * below]


class FoldedRISTN(nn.Module):
    """The folded form of a `RISTN` that satisfies `can_fold`, for inference only.

    Args:
        trained: the network. It is copied, not changed.
    """

    def __init__(self, trained: RISTN) -> None:
        super().__init__()
        with torch.no_grad():
            trained = copy.deepcopy(trained).eval().float().cpu()  # folding uses float64, which MPS lacks
            assert can_fold(trained.config) and isinstance(trained.mixing, Recurrent)
            self.config: RISTNConfig = trained.config
            self.spatial_component = Spatial(trained.spatial)
            self.features = Features(trained.mixing)
            refine = trained.refine
            self.refine = Block(refine) if isinstance(refine, ResidualInvertibleBlock) else nn.Identity()
            self.upsampling = Upsampling(trained.reconstruction)
        self.requires_grad_(False)

    def forward(self, lr: Tensor, keep: slice | Sequence[int] = slice(None)) -> Tensor:
        """Upscale a window of frames, as `RISTN.forward` does.

        Args:
            lr: (B, T, 3, H, W) RGB in [0, 1], preferably float32.
            keep: the frames to reconstruct.

        Returns:
            (B, T', 3, 4H, 4W) in the dtype of `lr`, not clamped.
        """
        batch, frames = lr.shape[:2]
        kept = range(frames)[keep] if isinstance(keep, slice) else keep
        rgb = lr.transpose(0, 1).flatten(0, 1)
        fused: Tensor = self.features(self.spatial(rgb), frames, kept)
        images = [(image[None], features[None]) for image, features in zip(rgb, fused, strict=True)]
        sr = self.reconstruct([images[index * batch + each] for index in kept for each in range(batch)])
        return sr.view(-1, batch, *sr.shape[1:]).transpose(0, 1)

    def spatial(self, rgb: Tensor) -> Tensor:
        """Return the spatial features (T*B, C, H, W), channels last, of frames (T*B, 3, H, W) in [0, 1]."""
        rgb = normalize_rgb(rgb) if self.config.normalize_input else rgb
        features: Tensor = self.spatial_component(rgb.to(self.upsampling.last.weight.dtype))
        return features

    def stage_ends(self) -> tuple[nn.Module, nn.Module]:
        """Return the last module of the spatial component and of the temporal component."""
        return self.spatial_component, self.features.layers[-1]

    def reconstruct(self, images: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return RGB (N, 3, 4H, 4W), in the dtype of the frames, from N frames and their fused features.

        Refinement and upsampling run frame by frame, so that the wide feature maps exist for one frame at a time.

        Args:
            images: a frame (1, 3, H, W), for the global skip, and fused features (1, C, H, W), N times.
        """
        rgb = torch.cat([image for image, _ in images])
        if self.config.global_skip:
            sr = bicubic_upsample(rgb)
        else:
            sr = rgb.new_zeros(*rgb.shape[:2], SCALE * rgb.shape[2], SCALE * rgb.shape[3])
        for made, (_, fused) in zip(sr, images, strict=True):
            for start, strip in self.upsampling.strips(self.refine(fused)):
                made[:, SCALE * start : SCALE * start + strip.shape[2]].add_(strip[0])
        return sr
