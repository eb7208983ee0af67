"""A preview from beginning to end: moments, excerpts of them by every choice, and what each choice would cost."""

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
    """What a choice makes of the excerpts, and what it would cost for the whole video.

    Attributes:
        choice: which.
        stills: of every moment its place at 4x, uint8 (H, W, 3).
        clip: the places of the first excerpt at 4x, uint8, as many as its sources.
        seconds: that the whole video would take.
        bytes: of its output, without the sound.
    """

    choice: Choice
    stills: list[Image]
    clip: list[Image]
    seconds: Span
    bytes: Span


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Everything that is shown: the excerpts of a job's source, the form of its output, and a result a choice."""

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
    """Read a few moments of a video and upscale a place of each by every choice; nothing is written.

    Args:
        info: the video, or images, or an image.
        choices: at least one.
        open_upscaler: the engine of a choice.
        times: moments in seconds after the first frame; none for those that are worth a look.
        crop: the place to show, in source pixels; None for the one with the most detail of each moment.
        on_step: told what is done next.

    Raises:
        VideoError: what `ristn upscale` would refuse, and times and places that are not in the video.
    """
    on_step("look for moments")
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
    """Upscale the excerpts of a job by a choice, and measure meanwhile; `shares` are of `compare_places`."""
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
