"""Degradations of real footage, one function each.

Every function takes frames (T, 3, H, W) in [0, 1], a strength in [0, 1] and a seed, and returns frames of the same
shape and range. A strength of 1 is the worst footage that is still worth upscaling. The result depends on these
arguments only. Properties that are constant within a clip, such as a chroma shift, are constant over the frames.
"""

from collections.abc import Callable

from torch import Tensor

from ristn_cli.training.degradations.analog import shift_chroma, wear_tape
from ristn_cli.training.degradations.coding import compress_strongly, compress_to_dvd, compress_twice
from ristn_cli.training.degradations.sensor import add_grain, add_low_light_noise
from ristn_cli.training.degradations.sharpness import sharpen, upscale_before

Degrade = Callable[[Tensor, float, int], Tensor]

SOURCE: dict[str, Degrade] = {
    "low_light": add_low_light_noise,
    "grain": add_grain,
    "chroma": shift_chroma,
    "vhs": wear_tape,
    "upscaled": upscale_before,
    "sharpened": sharpen,
}
"""Degradations before compression, in the order in which they are applied."""

COMPRESSIONS: dict[str, Degrade] = {
    "strong": compress_strongly,
    "twice": compress_twice,
    "dvd": compress_to_dvd,
}
"""Compressions, of which a window has at most one."""

DEGRADATIONS: dict[str, Degrade] = SOURCE | COMPRESSIONS
"""All degradations by their names in recipes."""
