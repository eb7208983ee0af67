"""Computes size, pixel aspect ratio and frame rate of the output. Does not read files."""

import math
from fractions import Fraction

from ristn_cli.job.options import Fit, UpscaleOptions, doubles_rate, makes_film, output_rate
from ristn_cli.model import SCALE
from ristn_cli.video import FILM_GRAIN, EncoderSettings, OutputShape, VideoError, VideoInfo, size_step

BOXES: dict[Fit, tuple[int, int]] = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
    "4320p": (7680, 4320),
}
"""Sizes of the names in `fit`, rotated for portrait video."""


def choose_shape(
    info: VideoInfo, options: UpscaleOptions, encoder: EncoderSettings, *, is_video: bool = True
) -> OutputShape:
    """Return the shape of the output: 4x, unless `size`, `fit`, `scale` or `square_pixels` is given.

    Keeps the aspect ratio on screen, within a pixel. Computed sizes of a video (`is_video`) are rounded to multiples
    that the chroma of the pixel format needs. Images may have any size.

    Raises:
        VideoError: the pixel format cannot have the given `size`, or no pixel format has an alpha channel.
    """
    aspect = info.sample_aspect_ratio
    across = down = 1
    if is_video:
        try:
            across, down = size_step(encoder.codec, encoder.pixel_format, info.bit_depth, has_alpha=encoder.has_alpha)
        except VideoError as error:
            raise VideoError(f"{info.path}: {error}") from error
    width, height = Fraction(SCALE * info.width), Fraction(SCALE * info.height)
    if options.square_pixels:
        # Enlarge one side instead of shrinking the other, to keep all detail.
        width, height, aspect = width * max(aspect, Fraction(1)), height / min(aspect, Fraction(1)), Fraction(1)
    if options.size is not None:
        asked_width, asked_height = options.size
        if asked_width % across or asked_height % down:
            raise VideoError(
                f"{info.path}: --size {asked_width}x{asked_height} is not possible in this pixel format, whose chroma "
                f"needs a width divisible by {across} and a height divisible by {down}; use another size "
                "or --pix-fmt yuv444p"
            )
        if not options.square_pixels and abs(asked_height - asked_width * height / width) >= 2:
            aspect = aspect * (width / height) / Fraction(asked_width, asked_height)
        width, height = Fraction(asked_width), Fraction(asked_height)
    else:
        factor = Fraction(options.scale, SCALE)
        if options.fit is not None:
            shown = width * max(aspect, Fraction(1)), height / min(aspect, Fraction(1))
            factor = min(Fraction(1), _fit(*shown, options.fit))
        width = Fraction(_round_to(width * factor, across))
        height = Fraction(_round_to(height * factor, down))
    is_doubled, is_film = doubles_rate(info, options), makes_film(info, options)
    return OutputShape(
        width=int(width),
        height=int(height),
        sample_aspect_ratio=aspect.limit_denominator(10000),
        rate=output_rate(info, options),
        time_base=info.frame_time_base / (2 if is_doubled else FILM_GRAIN if is_film else 1),
        frame_size=(SCALE * info.width, SCALE * info.height),
        has_field_rate=is_doubled,
        is_film=is_film,
    )


def _fit(width: Fraction, height: Fraction, fit: Fit | tuple[int, int]) -> Fraction:
    """Return the factor that makes an image, as shown, just fit into the box."""
    if isinstance(fit, tuple):
        across, down = fit
    else:
        across, down = BOXES[fit] if width >= height else BOXES[fit][::-1]
    return min(across / width, down / height)


def _round_to(size: Fraction, step: int) -> int:
    """Return the nearest positive multiple of `step`."""
    return max(step, step * math.floor(size / step + Fraction(1, 2)))
