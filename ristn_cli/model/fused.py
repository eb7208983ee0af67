"""The convolutions that the inference form is made of, by oneDNN's fused operations where they are there.

A processor that oneDNN does not serve in half precision keeps values in it, and computes in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fused_types() -> frozenset[torch.dtype]:
    """The types in which oneDNN, where it is there, computes on this processor: on x86 half precision takes AVX-512."""
    onednn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(onednn, "_convolution_pointwise"):  # type: ignore[no-untyped-call]
        return frozenset()
    halves = {torch.bfloat16: onednn._is_mkldnn_bf16_supported, torch.float16: onednn._is_mkldnn_fp16_supported}
    return frozenset({torch.float32, *(dtype for dtype, is_supported in halves.items() if is_supported())})


FUSED_TYPES = fused_types()


def has_fused_convolutions(x: Tensor) -> bool:
    """Whether oneDNN's convolutions with fused activation and sum can be called for `x`."""
    return x.device.type == "cpu" and x.dtype in FUSED_TYPES


def arithmetic_type(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type in which convolutions of values of `dtype` are computed on `device`."""
    is_served = device.type != "cpu" or dtype in FUSED_TYPES
    return dtype if is_served or dtype.itemsize >= torch.float32.itemsize else torch.float32


def is_only_kept(x: Tensor) -> bool:
    """Whether `x` is of a type that nothing is computed in."""
    return arithmetic_type(x.device, x.dtype) != x.dtype


def widen(x: Tensor) -> Tensor:
    """`x` in the type in which it is computed with; `x` itself where that is its own."""
    return x.to(arithmetic_type(x.device, x.dtype))


def kernel_and_bias(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The parameters of a convolution in the type of its input; themselves where that is their own."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return weight.to(dtype), bias.to(dtype) if isinstance(bias, Tensor) else None


class FusedConvolution(nn.Module):
    """A convolution of stride 1, with an optional ReLU, or added to what is already there.

    It keeps the size, unless `padding` says that its input is padded already.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool = False, padding: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.relu = relu
        self.padding = weight.shape[-1] // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W), or without the padding that the input brings."""
        if is_only_kept(x):  # image by image: what is wide stays small, and in the cache
            lost = self.weight.shape[-1] - 1 - 2 * self.padding
            shape = (x.shape[0], self.weight.shape[0], x.shape[2] - lost, x.shape[3] - lost)
            made = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
            for image, result in zip(x.chunk(len(x)), made.chunk(len(x)), strict=True):
                result.copy_(self(widen(image)))
            return made
        weight, bias = kernel_and_bias(self, x.dtype)
        if has_fused_convolutions(x):
            ones, padding = [1, 1], [self.padding] * 2
            out: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, padding, ones, ones, 1, "relu" if self.relu else "none", [], ""
            )
            return out
        out = F.conv2d(x, weight, bias, padding=self.padding)
        return F.relu_(out) if self.relu else out

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """`total` (N, C', H, W), which is overwritten, plus the convolution of (N, C, H, W)."""
        if is_only_kept(x):
            for image, result in zip(x.chunk(len(x)), total.chunk(len(x)), strict=True):
                result.copy_(self.add_to(widen(result), widen(image)))
            return total
        weight, bias = kernel_and_bias(self, x.dtype)
        if has_fused_convolutions(x) and total.is_contiguous(memory_format=torch.channels_last):
            ones, padding = [1, 1], [self.padding] * 2
            torch.ops.mkldnn._convolution_pointwise_.binary(
                total, x, weight, bias, padding, ones, ones, 1, "add", 1.0, None, [], None
            )
            return total
        return total.add_(F.conv2d(x, weight, bias, padding=self.padding))


class Deconvolution(nn.Module):
    """A deconvolution with ReLU, in the type of what it is given."""

    def __init__(self, trained: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2H, 2W)."""
        own = self.trained
        weight, bias = kernel_and_bias(own, x.dtype)
        return F.relu_(F.conv_transpose2d(x, weight, bias, own.stride, own.padding, own.output_padding))  # type: ignore[arg-type]
