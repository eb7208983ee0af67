"""Makes a preview: chooses moments, upscales excerpts with every choice, and estimates the cost of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.comparison.alignment import Crop
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import Job
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.preview.choices import Choice
from ristn_cli.preview.commands import Form, settle_form
from ristn_cli.preview.costs import Span, compare_places, encode_places, estimate_bytes, estimate_seconds
from ristn_cli.preview.excerpts import Excerpt, read_excerpt, upscale_excerpt
from ristn_cli.preview.moments import choose_moments
from ristn_cli.video import Image, VideoInfo, to_eight_bits

CLIP_SECONDS = Fraction(2)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The excerpts upscaled by a choice, and its cost for the whole video.

    Attributes:
        choice: the choice.
        stills: crop of each moment at 4x, uint8 (H, W, 3).
        clip: crops of the first excerpt at 4x, uint8, as many as its sources.
        seconds: time for the whole video.
        bytes: size of its output, without audio.
    """

    choice: Choice
    stills: list[Image]
    clip: list[Image]
    seconds: Span
    bytes: Span


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The excerpts of a job's source, the form of its output, and a result per choice."""

    job: Job
    form: Form
    excerpts: list[Excerpt]
    results: list[Result]


def make_preview(
    info: VideoInfo,
    choices: Sequence[Choice],
    open_upscaler: Callable[[Choice], Upscaler],
    *,
    times: Sequence[Fraction] = (),
    crop: Crop | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Preview:
    """Upscale a crop of a few moments with every choice. Does not write files.

    Args:
        info: a video, images or an image.
        choices: one or more choices.
        open_upscaler: returns the engine of a choice.
        times: moments in seconds after the first frame; empty to choose them.
        crop: crop in source pixels; None for the most detailed one of each moment.
        on_step: called with the name of the next step.

    Raises:
        VideoError: `ristn upscale` would refuse the video, or a time or the crop is outside of it.
    """
    on_step("choose moments")
    form, job = settle_form(info, UpscaleOptions())
    moments = choose_moments(job, times=times, crop=crop)
    on_step("read excerpts")
    excerpts = [
        read_excerpt(job, moment, seconds=None if number else CLIP_SECONDS) for number, moment in enumerate(moments)
    ]
    shares = compare_places(job, moments)
    results = []
    for choice in choices:
        on_step(choice.name)
        upscaler = open_upscaler(choice)
        results.append(try_choice(job, choice, upscaler, excerpts, shares))
        upscaler.rest()
    return Preview(job=job, form=form, excerpts=excerpts, results=results)


def try_choice(
    job: Job, choice: Choice, upscaler: Upscaler, excerpts: Sequence[Excerpt], shares: Sequence[float]
) -> Result:
    """Upscale the excerpts with a choice, and measure time and size. `shares` are from `compare_places`."""
    info = job.source
    upscaler.fit(info.width, info.height, image_bytes=1 if info.bit_depth <= 8 else 2, encoder_bytes=job.encoder_bytes)
    upscaled = [upscale_excerpt(excerpt, upscaler) for excerpt in excerpts]
    first = excerpts[0]
    repeats = [len(first.pieces[k].times) for k in first.shown]
    shown = [image for image, count in zip(upscaled[0].images, repeats, strict=True) for _ in range(count)]
    encoded = encode_places(job, shown)
    return Result(
        choice=choice,
        stills=[
            to_eight_bits(made.images[excerpt.still - excerpt.shown.start])
            for excerpt, made in zip(excerpts, upscaled, strict=True)
        ],
        clip=[to_eight_bits(image) for image in upscaled[0].images],
        seconds=estimate_seconds(job, upscaler, upscaled[0].units, encoded, distinct=len(first.shown) / len(shown)),
        bytes=estimate_bytes(job, encoded, shares),
    )
