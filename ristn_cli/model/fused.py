"""Convolutions of the folded network, with oneDNN's fused operators where they work.

On a CPU where oneDNN does not support a half-precision type, values are stored in that type and computed in float32.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def onednn_types() -> frozenset[torch.dtype]:
    """Return the dtypes that oneDNN computes in on this CPU. On x86, half precision requires AVX-512."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return frozenset()
    halves = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    questions = {dtype: getattr(torch.ops.mkldnn, name, None) for dtype, name in halves.items()}
    return frozenset({torch.float32, *(dtype for dtype, ask in questions.items() if ask is not None and ask())})


ONEDNN_TYPES = onednn_types()


def convolve_fused(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, *, relu: bool) -> Tensor:
    """Return a convolution of stride 1, with an optional ReLU, computed by a private operator of PyTorch."""
    ones = [1, 1]
    activation = "relu" if relu else "none"
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [padding] * 2, ones, ones, 1, activation, [], ""
    )
    return out


def add_convolution_fused(total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> None:
    """Add a convolution of stride 1 to `total` in place, with a private operator of PyTorch."""
    ones = [1, 1]
    torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, weight, bias, [padding] * 2, ones, ones, 1, "add", 1.0, None, [], None
    )


@cache
def has_fused_operators(dtype: torch.dtype) -> bool:
    """Return whether both fused operators work for `dtype`, by comparing them once with the public operators.

    The operators are private: a version of PyTorch may lack them or change their arguments.
    """
    x = (torch.arange(18, device="cpu").view(1, 2, 3, 3) % 5 - 2).to(dtype, memory_format=torch.channels_last)
    weight = (torch.arange(36, device="cpu").view(2, 2, 3, 3) % 3 - 1).to(dtype, memory_format=torch.channels_last)
    bias = torch.ones(2, dtype=dtype, device="cpu")
    convolved = F.conv2d(x, weight, bias, padding=1)
    total = torch.ones_like(convolved)
    try:
        activated = convolve_fused(x, weight, bias, 1, relu=True)
        add_convolution_fused(total, x, weight, bias, 1)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return torch.allclose(activated, F.relu(convolved), atol=0.01) and torch.allclose(total, convolved + 1, atol=0.01)


def can_fuse(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in ONEDNN_TYPES and has_fused_operators(x.dtype)


def compute_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which convolutions of `dtype` values are computed on `device`."""
    is_served = device.type != "cpu" or dtype in ONEDNN_TYPES
    return dtype if is_served or dtype.itemsize >= torch.float32.itemsize else torch.float32


def is_storage_only(x: Tensor) -> bool:
    return compute_dtype(x.device, x.dtype) != x.dtype


def to_compute_dtype(x: Tensor) -> Tensor:
    """Return `x` in the dtype in which its convolutions are computed, without a copy if it already has that dtype."""
    return x.to(compute_dtype(x.device, x.dtype))


def kernel_and_bias(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias of a convolution in `dtype`, without a copy if they already have it."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return weight.to(dtype), bias.to(dtype) if isinstance(bias, Tensor) else None


class FusedConvolution(nn.Module):
    """A convolution of stride 1, with an optional ReLU, or added to a tensor in place.

    The output has the size of the input, unless `padding` overrides the default of half the kernel size.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool = False, padding: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.relu = relu
        self.padding = weight.shape[-1] // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W); H and W shrink if the padding is smaller than the default."""
        if is_storage_only(x):  # one image at a time keeps the float32 copy small enough for the CPU cache
            lost = self.weight.shape[-1] - 1 - 2 * self.padding
            shape = (x.shape[0], self.weight.shape[0], x.shape[2] - lost, x.shape[3] - lost)
            made = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
            for image, result in zip(x.chunk(len(x)), made.chunk(len(x)), strict=True):
                result.copy_(self(to_compute_dtype(image)))
            return made
        weight, bias = kernel_and_bias(self, x.dtype)
        if can_fuse(x):
            return convolve_fused(x, weight, bias, self.padding, relu=self.relu)
        out = F.conv2d(x, weight, bias, padding=self.padding)
        return F.relu_(out) if self.relu else out

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """Add the convolution of `x` (N, C, H, W) to `total` (N, C', H, W) in place and return it."""
        if is_storage_only(x):
            for image, result in zip(x.chunk(len(x)), total.chunk(len(x)), strict=True):
                result.copy_(self.add_to(to_compute_dtype(result), to_compute_dtype(image)))
            return total
        weight, bias = kernel_and_bias(self, x.dtype)
        if can_fuse(x) and total.is_contiguous(memory_format=torch.channels_last):
            add_convolution_fused(total, x, weight, bias, self.padding)
            return total
        return total.add_(F.conv2d(x, weight, bias, padding=self.padding))


class Deconvolution(nn.Module):
    """A deconvolution with ReLU, computed in the dtype of its input."""

    def __init__(self, trained: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2H, 2W)."""
        own = self.trained
        weight, bias = kernel_and_bias(own, x.dtype)
        return F.relu_(F.conv_transpose2d(x, weight, bias, own.stride, own.padding, own.output_padding))  # type: ignore[arg-type]


class PhasedConvolution(nn.Module):
    """A 3x3 convolution to few channels, as a 4x4 convolution of stride 2 to the four phases of each, and a shuffle.

    Processors compute 16 output channels at once: 4 x 3 use more of them than 3 do.
    """

    def __init__(self, trained: nn.Conv2d) -> None:
        super().__init__()
        assert trained.kernel_size == (3, 3) and trained.padding == (1, 1) and trained.bias is not None
        self.channels = trained.in_channels
        phases = trained.weight.new_zeros(trained.out_channels, 2, 2, trained.in_channels, 4, 4)
        for down in range(2):
            for across in range(2):
                phases[:, down, across, :, down : down + 3, across : across + 3] = trained.weight.detach()
        self.weight = nn.Parameter(phases.flatten(0, 2))
        self.bias = nn.Parameter(trained.bias.detach().repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W), for even H and W."""
        weight, bias = kernel_and_bias(self, x.dtype)
        return F.pixel_shuffle(F.conv2d(x, weight, bias, stride=2, padding=1), 2)
