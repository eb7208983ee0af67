"""Convert film scan values to video-like values in [0, 1], as in the network's training data, and back.

Scene-linear light x, with diffuse white at 1, becomes v = (f(x) - f(-65504)) / (f(65504) - f(-65504)), where f is

    BT.709's camera curve in [0, 1]            ITU-R BT.709-6, item 1.2
    1 + s(0.2, 0.4946 (x - 1)) above 1         0.4946 is the camera curve's slope at 1
    -s(0.05, -4.5 x) below 0                   4.5 is its slope at 0
    s(a, d) = a ln(1 + ln(1 + d / a))          its slope at 0 is 1

So f is smooth at 0 and 1. Black is v = 0.085, white 0.69, and 65504, the largest half float, is 1. Logarithmic values
are printing density: 0.002 density per 10-bit code, a negative gamma of 0.6, reference black 95, reference white 685.
Black becomes 0 and white 1: x = (w(c) - w(95)) / (1 - w(95)) with w(c) = 10^((c - 685) 0.002 / 0.6). Does not know
files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""Array of floats."""

BLACK_CODE = 95
WHITE_CODE = 685
LOG_STEP = 0.002 / 0.6
"""Decades of light per 10-bit code."""
MAX_LOG_CODE = 1023
MAX_LIGHT = 65504.0
"""Light is clipped to [-MAX_LIGHT, MAX_LIGHT]."""

ALPHA, BETA = 1.09929682680944, 0.018053968510807
"""Constants of BT.709's curve in the precision of BT.2020, so that its two pieces meet."""
TOP_SLOPE = 0.45 * ALPHA
ABOVE, BELOW = 0.2, 0.05
FLOAT_ROWS = 64
"""Rows per step, so that intermediate values stay in the CPU cache."""


def camera_curve(light: Values) -> Values:
    """Apply BT.709's curve to light in [0, 1]."""
    return np.where(light < BETA, 4.5 * light, ALPHA * np.power(np.maximum(light, BETA), 0.45) - (ALPHA - 1))


def inverse_camera_curve(values: Values) -> Values:
    """Invert BT.709's curve: values in [0, 1] to light."""
    return np.where(
        values < 4.5 * BETA, values / 4.5, np.power((np.maximum(values, 4.5 * BETA) + (ALPHA - 1)) / ALPHA, 1 / 0.45)
    )


def _squeeze(extent: float, distance: Values) -> Values:
    return extent * np.log1p(np.log1p(distance / extent))


def _stretch(extent: float, squeezed: Values) -> Values:
    return extent * np.expm1(np.expm1(squeezed / extent))


LOWEST = -float(_squeeze(BELOW, np.array(4.5 * MAX_LIGHT)))
HIGHEST = 1 + float(_squeeze(ABOVE, np.array(TOP_SLOPE * (MAX_LIGHT - 1))))


def light_to_values(light: Values) -> Values:
    """Convert light x to v, of the same dtype. NaN becomes black."""
    light = np.clip(np.nan_to_num(light, nan=0.0, posinf=MAX_LIGHT, neginf=-MAX_LIGHT), -MAX_LIGHT, MAX_LIGHT)
    values = camera_curve(np.clip(light, 0, 1))
    above, below = light > 1, light < 0
    values[above] = 1 + _squeeze(ABOVE, TOP_SLOPE * (light[above] - 1))
    values[below] = -_squeeze(BELOW, -4.5 * light[below])
    return (values - LOWEST) / (HIGHEST - LOWEST)


def values_to_light(values: Values) -> Values:
    """Convert v in [0, 1] to light x, of the same dtype."""
    values = values * (HIGHEST - LOWEST) + LOWEST
    light = inverse_camera_curve(np.clip(values, 0, 1))
    above, below = values > 1, values < 0
    light[above] = 1 + _stretch(ABOVE, values[above] - 1) / TOP_SLOPE
    light[below] = -_stretch(BELOW, -values[below]) / 4.5
    return light


def log_to_light(codes: Values) -> Values:
    """Convert logarithmic values in [0, 1], where 1 is the highest code, to light."""
    black = 10 ** ((BLACK_CODE - WHITE_CODE) * LOG_STEP)
    return (10 ** ((codes * MAX_LOG_CODE - WHITE_CODE) * LOG_STEP) - black) / (1 - black)


def light_to_log(light: Values) -> Values:
    """Convert light to logarithmic values, clipped to [0, 1]."""
    black = 10 ** ((BLACK_CODE - WHITE_CODE) * LOG_STEP)
    relative = np.maximum(light * (1 - black) + black, 1e-30)
    return np.clip((np.log10(relative) / LOG_STEP + WHITE_CODE) / MAX_LOG_CODE, 0, 1)


def light_to_display(light: Values) -> Values:
    """Convert light to BT.709 video, clipped at black and diffuse white."""
    return camera_curve(np.clip(light, 0, 1))


def display_to_light(values: Values, transfer: str) -> Values:
    """Convert video in [0, 1] to scene light by its transfer (FFmpeg's name); unknown ones use BT.709's curve.

    1 is diffuse white: 203 cd/m2 for PQ, 0.75 for HLG (ITU-R BT.2408).
    """
    if transfer == "smpte2084":
        power = np.power(values, 1 / 78.84375)
        ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return np.power(ratio, 1 / 0.1593017578125) * (10000 / 203)
    if transfer == "arib-std-b67":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(values <= 0.5, values**2 / 3, (np.exp((np.maximum(values, 0.5) - c) / a) + b) / 12)
        white: float = (np.exp((0.75 - c) / a) + b) / 12
        return scene / white
    if transfer == "iec61966-2-1":
        return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)
    if transfer == "linear":
        return values
    return inverse_camera_curve(values)


def in_strips(convert: Callable[[Values], Values], image: Values) -> Values:
    """Apply a conversion of float32 values to an image, a few rows at a time."""
    result = np.empty(image.shape, np.float32)
    for top in range(0, len(image), FLOAT_ROWS):
        rows = slice(top, top + FLOAT_ROWS)
        result[rows] = convert(image[rows].astype(np.float32))
    return result


@cache
def all_codes() -> NDArray[np.float64]:
    """Return the 65,536 values of 16 bits, scaled to [0, 1]."""
    return np.arange(65536) / 65535


def to_levels(values: Values, dtype: np.dtype[Any]) -> Values:
    """Round values in [0, 1] to the levels of an integer dtype."""
    peak = float(np.iinfo(dtype).max)
    return (np.clip(values, 0, 1) * np.float32(peak) + np.float32(0.5)).astype(dtype)


def to_unit(image: Values) -> Values:
    """Return an image as float32 in [0, 1]."""
    if image.dtype == np.float32:
        return image
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
