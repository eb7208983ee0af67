"""Test pictures for colours, and their code values by the definition."""

import numpy as np

LUMA_WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}


def code_values(rgb: np.ndarray, bits: int, matrix: str, range_: str) -> np.ndarray:
    """Y, Cb, Cr as real code values by the definition (H.273), written apart from the implementation; rgb in 0..1."""
    red_weight, blue_weight = LUMA_WEIGHTS[matrix]
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    differences = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    if range_ == "pc":
        top = 2**bits - 1
        return np.stack([luma * top, *(value * top + 2 ** (bits - 1) for value in differences)])
    unit = 2 ** (bits - 8)
    return np.stack([(16 + 219 * luma) * unit, *((128 + 224 * value) * unit for value in differences)])


def grey_ramp(width: int = 256, height: int = 32) -> np.ndarray:
    """RGB (H, W, 3) in 0..1: black to white from left to right."""
    return np.broadcast_to(np.linspace(0, 1, width)[None, :, None], (height, width, 3))


def color_bars(width: int = 256, height: int = 32) -> np.ndarray:
    """RGB (H, W, 3) in 0..1: the eight 75 % bars, 32 pixels each."""
    bars = [[0.75 * (bar & 1), 0.75 * (bar >> 1 & 1), 0.75 * (bar >> 2 & 1)] for bar in range(8)]
    return np.broadcast_to(np.array(bars).repeat(width // 8, 0)[None], (height, width, 3))
