"""The convolution that the inference form is made of, by oneDNN's fused operations where they are there."""

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


class FusedConvolution(nn.Module):
    """A convolution of stride 1 that keeps the size, with an optional ReLU, or added to what is already there."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.relu = relu
        self.padding = weight.shape[-1] // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        if has_fused_convolutions(x):
            ones, padding = [1, 1], [self.padding] * 2
            out: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, padding, ones, ones, 1, "relu" if self.relu else "none", [], ""
            )
            return out
        out = F.conv2d(x, self.weight, self.bias, padding=self.padding)
        return F.relu_(out) if self.relu else out

    def add_to(self, total: Tensor, x: Tensor) -> Tensor:
        """`total` (N, C', H, W), which is overwritten, plus the convolution of (N, C, H, W)."""
        if has_fused_convolutions(x) and total.is_contiguous(memory_format=torch.channels_last):
            ones, padding = [1, 1], [self.padding] * 2
            torch.ops.mkldnn._convolution_pointwise_.binary(
                total, x, self.weight, self.bias, padding, ones, ones, 1, "add", 1.0, None, [], None
            )
            return total
        return total.add_(F.conv2d(x, self.weight, self.bias, padding=self.padding))
