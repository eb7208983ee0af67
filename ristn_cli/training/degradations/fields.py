"""Interlaced video: weaves two fields into a frame, and simulates simple deinterlacers."""

import torch
from torch import Tensor

from ristn_cli.training.degradations.planes import convolve

TREATMENTS = ("none", "blend", "double", "partly")


def split_fields(frames: Tensor, first: int) -> Tensor:
    """Split frames (T, C, H, W) with an even number of lines into fields (2 T, C, H/2, W) in temporal order.

    Each frame gives the lines `first` (0 or 1), `first` + 2, ... The following field has the other lines of the next
    frame, or of the same frame at the end.
    """
    following = torch.cat([frames[1:], frames[-1:]])
    return torch.stack([frames[:, :, first::2], following[:, :, 1 - first :: 2]], dim=1).flatten(0, 1)


def weave(fields: Tensor, first: int) -> Tensor:
    """Weave fields (2 T, C, H/2, W) into frames (T, C, H, W). The earlier field of each frame has line `first`."""
    pairs = fields.view(-1, 2, *fields.shape[1:])
    frames = torch.stack([pairs[:, first], pairs[:, 1 - first]], dim=3)
    return frames.flatten(2, 3)


def deinterlace(woven: Tensor, first: int, treatment: str, threshold: float = 0.0) -> Tensor:
    """Apply a simple deinterlacer to woven frames.

    `none` leaves the combing. `blend` averages adjacent lines, which shows moving objects twice. `double` replaces the
    second field's lines by the mean of their neighbours, which gives slanted edges steps. `partly` does so only where a
    line differs from both neighbours by more than a threshold in [0, 1], which leaves faint combing.
    """
    if treatment == "none":
        return woven
    if treatment == "blend":
        return convolve(woven, torch.tensor([0.25, 0.5, 0.25]), -2)
    mean = convolve(woven, torch.tensor([0.5, 0.0, 0.5]), -2)
    result = woven.clone()
    lines = slice(1 - first, None, 2)
    if treatment == "double":
        result[:, :, lines] = mean[:, :, lines]
        return result
    over_upper, over_lower = (woven - convolve(woven, torch.tensor(taps), -2) for taps in ([0.0, 0, 1], [1.0, 0, 0]))
    combs = (over_upper * over_lower > 0) & (torch.minimum(over_upper.abs(), over_lower.abs()) > threshold)
    is_combed = combs.any(dim=1, keepdim=True).expand_as(woven)[:, :, lines]
    result[:, :, lines] = torch.where(is_combed, mean[:, :, lines], woven[:, :, lines])
    return result
