"""Results of an evaluation as tables, as JSON, and the protocol in words. Prints nothing."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ristn_cli.evaluation.dataset import Clip
from ristn_cli.evaluation.failures import Failure
from ristn_cli.evaluation.scoring import ClipScores, FrameScores, Protocol, mean_scores
from ristn_cli.printable import printable

METRICS = {
    "psnr_y": ("PSNR-Y", "dB", 2),
    "ssim_y": ("SSIM-Y", "", 4),
    "psnr_rgb": ("PSNR-RGB", "dB", 2),
    "ssim_rgb": ("SSIM-RGB", "", 4),
    "sharpness": ("sharpness", "", 3),
    "feature_distance": ("feature distance", "", 4),
    "temporal_error": ("temporal error", "levels", 2),
    "temporal_gain": ("temporal gain", "dB", 2),
}
"""Title, unit and decimals of every frame score."""


@dataclass(frozen=True)
class Table:
    """A table of text: title, column headings and rows. The last row may contain means."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ends_in_mean: bool = False


@dataclass(frozen=True)
class MethodScores:
    """Scores of a method on each clip, in the order of the results' clips."""

    name: str
    clips: tuple[ClipScores, ...]

    @property
    def means(self) -> FrameScores:
        """Means of the clips' means, so that every clip has the same weight, as in the paper's tables."""
        return mean_scores(clip.means for clip in self.clips)

    @property
    def seconds(self) -> float:
        """Mean seconds per frame over clips; NaN for existing outputs."""
        return mean_of(clip.seconds for clip in self.clips)

    @property
    def vmaf(self) -> float:
        """Mean VMAF over clips; NaN if not measured."""
        return mean_of(clip.vmaf for clip in self.clips)

    @property
    def vmaf_neg(self) -> float:
        """Mean VMAF-NEG over clips; NaN if not measured."""
        return mean_of(clip.vmaf_neg for clip in self.clips)


@dataclass(frozen=True)
class Results:
    """An evaluation: protocol, clips, and scores of each method. The first method is the baseline."""

    protocol: Protocol
    clips: tuple[Clip, ...]
    methods: tuple[MethodScores, ...]
    windows: tuple[tuple[str, int], ...] = ()
    """Window length of each network, in frames."""
    failures: tuple[Failure, ...] | None = None
    """Places with the least gain, worst first; None if not measured."""


def mean_of(values: Iterable[float]) -> float:
    """Return the mean of the numbers, ignoring NaN; NaN if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else math.nan


def shown(value: float, decimals: int, *, sign: bool = False) -> str:
    """Format a number for tables; NaN becomes a dash."""
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.{decimals}f}"


def clip_table(results: Results) -> Table:
    """Return a table of PSNR-Y / SSIM-Y of every method on every clip and of the means, with temporal gains if
    measured.
    """
    gains = [k for k, method in enumerate(results.methods) if not math.isnan(method.means.temporal_gain)]
    several = len(gains) > 1
    headings = ["clip", "frames", *(method.name for method in results.methods)]
    headings += [f"temporal gain of {results.methods[k].name}" if several else "temporal gain" for k in gains]
    rows = []
    for position, clip in enumerate([*results.clips, None]):
        columns = [method.means if clip is None else method.clips[position].means for method in results.methods]
        count = "" if clip is None else count_text(results, position)
        rows.append(
            (
                "mean" if clip is None else clip.name,
                count,
                *(f"{shown(means.psnr_y, 2)} / {shown(means.ssim_y, 4)}" for means in columns),
                *(shown(columns[k].temporal_gain, 2, sign=True) for k in gains),
            )
        )
    return Table("PSNR-Y in dB / SSIM-Y per clip", tuple(headings), tuple(rows), ends_in_mean=True)


def count_text(results: Results, position: int) -> str:
    """Return the number of scored frames of a clip, and of all its frames if that differs."""
    scored, total = len(results.methods[0].clips[position].frames), results.clips[position].total
    return str(scored) if scored == total else f"{scored} of {total}"


def method_table(results: Results) -> Table:
    """Return a table with a row per measured score and one for the time, and a column per method."""
    methods = results.methods
    rows = [
        (
            title(name),
            *(shown(getattr(method.means, name), METRICS[name][2], sign=name == "temporal_gain") for method in methods),
        )
        for name in METRICS
        if any(not math.isnan(getattr(method.means, name)) for method in methods)
    ]
    base = methods[0]
    gains = (shown(method.means.psnr_y - base.means.psnr_y, 2, sign=True) for method in methods)
    rows.insert(1, (f"PSNR-Y above {base.name}, dB", *gains))
    if any(not math.isnan(method.vmaf) for method in methods):
        rows.append(("VMAF", *(shown(method.vmaf, 2) for method in methods)))
        rows.append(("VMAF-NEG", *(shown(method.vmaf_neg, 2) for method in methods)))
    rows.append(("seconds per frame", *(shown(method.seconds, 3) for method in methods)))
    return Table("Means over clips", ("", *(method.name for method in methods)), tuple(rows))


def failure_table(failures: Sequence[Failure]) -> Table:
    rows = tuple(
        (
            place.clip,
            str(place.frame),
            f"{place.width}x{place.height} at {place.x},{place.y}",
            shown(place.bicubic_psnr_y, 2),
            shown(place.psnr_y, 2),
            shown(place.psnr_y - place.bicubic_psnr_y, 2, sign=True),
        )
        for place in failures
    )
    return Table("Least gain over bicubic, PSNR-Y in dB", ("clip", "frame", "place", "bicubic", "ours", "gain"), rows)


def title(metric: str) -> str:
    name, unit, _ = METRICS[metric]
    return f"{name}, {unit}" if unit else name


def describe_protocol(results: Results) -> list[str]:
    protocol = results.protocol
    made = {
        "BI": "Degradation BI: antialiased bicubic to a quarter, rounded to 8 bits",
        "BD": "Degradation BD: Gaussian blur with sigma 1.6, every fourth pixel, rounded to 8 bits",
    }[protocol.degradation]
    if (used := protocol.compression) is not None:
        codec = {
            "libx264": f"x264 crf {used.strength} (preset {used.preset}, ",
            "mpeg2video": f"MPEG-2 at quantizer scale {used.strength} (",
            "mpeg4": f"MPEG-4 at quantizer scale {used.strength} (",
        }[used.encoder]
        made = (
            f"LR frames are compressed once for all methods: {codec}4:2:0, key frames at most {used.keyframe_interval} "
            f"apart), after degradation {protocol.degradation}. {made}"
        )
    lines = [
        f"{f'LR frames from {protocol.lr}' if protocol.lr else made}; HR cut to a multiple of 4.",
        f"PSNR and SSIM on BT.601 Y of 8-bit frames, {protocol.crop_border} border pixels cut, "
        "mean over frames, then over clips.",
    ]
    short = [f"{clip.frames} of {clip.total} for {clip.name}" for clip in results.clips if clip.frames < clip.total]
    if short:
        lines.append(
            f"The given folders have fewer frames than the originals. Only the first were scored: {', '.join(short)}."
        )
    if protocol.max_frames is not None:
        lines.append(f"At most {protocol.max_frames} frames of each clip were read.")
    lines.append(
        f"The first and last {protocol.skip} frames of each clip are upscaled but not scored."
        if protocol.skip
        else "All frames are scored, including those at the ends of a clip."
    )
    if results.windows:
        lines.append(f"Windows: {', '.join(f'{name} {frames} frames' for name, frames in results.windows)}.")
    if any(not math.isnan(method.means.temporal_error) for method in results.methods):
        lines.append(
            "Temporal error: root mean square, in 8-bit levels of Y, of the difference between the output's and the "
            "original's change from frame to frame (dtSSD of Erofeev et al., BMVC 2015, per pixel); 0 is best."
        )
    if protocol.with_temporal_gain:
        lines.append(
            "Temporal gain: PSNR-Y with the real neighbours minus PSNR-Y with copies of the frame as neighbours."
        )
    lines.append(
        "Sharpness: gradient energy of Y relative to the original; below 1 is softer, above 1 has halos or noise."
    )
    if protocol.with_features:
        lines.append(
            "Feature distance: mean absolute difference of EfficientNet-Lite2 features relative to the original's, "
            "8 border pixels cut; 0 is best."
        )
    if protocol.with_vmaf:
        lines.append(
            "VMAF: models v0.6.1 and v0.6.1neg (VMAF-NEG, which does not reward sharpening) of ffmpeg's libvmaf, on "
            "whole frames without a cut border."
        )
    lines.append("Seconds per frame: upscaling only, on this machine.")
    return lines


def to_markdown(table: Table) -> str:
    """Return a table in Markdown: first column aligned left, others right, means in bold."""
    lines = [line_of(table.headings), "|---" + "|---:" * (len(table.headings) - 1) + "|"]
    for position, row in enumerate(table.rows):
        is_mean = table.ends_in_mean and position == len(table.rows) - 1
        lines.append(line_of([f"**{cell}**" if is_mean and cell else cell for cell in row]))
    return "\n".join(lines)


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def to_json(results: Results) -> dict[str, Any]:
    """Return all results as plain values: protocol, clips, and for every method its means, clips and frames."""
    protocol = asdict(results.protocol)
    protocol["lr"] = None if results.protocol.lr is None else str(results.protocol.lr)
    failures = [] if results.failures is None else [to_plain(failure) for failure in results.failures]
    return {
        "protocol": protocol | {"windows": dict(results.windows)},
        "clips": {
            clip.name: {"frames": clip.total, "scored": len(results.methods[0].clips[position].frames)}
            for position, clip in enumerate(results.clips)
        },
        "methods": {
            method.name: {
                "mean": finite(method.means, **whole(method)),
                "clips": {
                    scores.clip: {
                        "mean": finite(scores.means, **whole(scores)),
                        "first_frame": scores.first,
                        "frames": curves(scores.frames),
                    }
                    for scores in method.clips
                },
            }
            for method in results.methods
        },
        **({} if results.failures is None else {"failures": failures}),
    }


def to_plain(failure: Failure) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(failure).items()}


def whole(scores: MethodScores | ClipScores) -> dict[str, float]:
    """Return what is measured of whole clips, not of frames."""
    return {"seconds_per_frame": scores.seconds, "vmaf": scores.vmaf, "vmaf_neg": scores.vmaf_neg}


def finite(scores: FrameScores, **more: float) -> dict[str, float]:
    """Return the measured scores, rounded. JSON has no NaN."""
    return {name: round(value, 4) for name, value in (asdict(scores) | more).items() if math.isfinite(value)}


def curves(frames: Sequence[FrameScores]) -> dict[str, list[float | None]]:
    """Return every measured score over the frames, with null for frames without it."""
    columns: dict[str, list[float | None]] = {}
    for name in METRICS:
        values = [getattr(frame, name) for frame in frames]
        if any(math.isfinite(value) for value in values):
            columns[name] = [round(value, 4) if math.isfinite(value) else None for value in values]
    return columns
