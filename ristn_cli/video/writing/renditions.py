"""Convert images to the values of the output: those of a film scan, or video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video.convert import scale_codes
from ristn_cli.video.reading import scan_curve as curve
from ristn_cli.video.reading.scan_header import TRANSFERS
from ristn_cli.video.reading.scans import as_type, values_to_display
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.types import Frame, Scan, Transfer, VideoInfo
from ristn_cli.video.writing.scan_files import ScanHeader, encode_dpx, encode_exr

LOG_CODES = (3, 1)
"""DPX codes of transfer and colorimetric characteristic: logarithmic, printing density."""
DISPLAY_CODES = {"bt709": 6, "bt470bg": 7, "smpte170m": 8, "unspecified": 6}
"""DPX codes of FFmpeg's transfers. All others become 0, user-defined."""
CHROMATICITIES = {
    "bt2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "smpte432": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
    "smpte170m": (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    "bt470bg": (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, 0.3127, 0.3290),
}
"""By FFmpeg's names of primaries (ITU-T H.273, table 2). EXR's default is BT.709."""


def target_scan(info: VideoInfo, suffix: str) -> Scan:
    """Return the kind of DPX or EXR files to write for a source.

    A scan keeps its bit depth and transfer. DPX from EXR is logarithmic with 10 bits; DPX from video is video with 10
    bits or more. EXR is float if half would lose precision.
    """
    source = info.scan
    bits = info.bit_depth if source is None else source.bit_depth
    if source is not None and source.kind == suffix[1:]:
        if source.kind == "dpx" and TRANSFERS.get(source.dpx_codes[0], "display") != source.transfer:
            return replace(source, dpx_codes=(DISPLAY_CODES["bt709"],) * 2)
        return source
    if suffix == ".exr":
        needs_float = bits > 12 or (bits == 12 and source is not None and source.transfer == "linear")
        return Scan("exr", "linear", 32 if needs_float else 16, chromaticities=CHROMATICITIES.get(info.color.primaries))
    if source is not None:
        return Scan("dpx", "log", 10, dpx_codes=LOG_CODES)
    code = DISPLAY_CODES.get(info.color.transfer, 0)
    return Scan("dpx", "display", next(depth for depth in (10, 12, 16) if depth >= bits), dpx_codes=(code, code))


@dataclass(frozen=True, kw_only=True)
class ScanEncoder:
    """Encodes images of a source as DPX or EXR files.

    Attributes:
        source: kind of the source's images; None for video.
        transfer: transfer of a video, by FFmpeg's name.
        header: header of every file, without timecode.
    """

    source: Scan | None
    transfer: str
    header: ScanHeader

    @classmethod
    def of(cls, info: VideoInfo, suffix: str, rate: Fraction | None, aspect: Fraction) -> ScanEncoder:
        """Return the encoder for a source. `suffix` is one of `SCAN_SUFFIXES`; headers omit a `rate` of None."""
        return cls(
            source=info.scan, transfer=info.color.transfer, header=ScanHeader(target_scan(info, suffix), rate, aspect)
        )

    def encode(self, image: NDArray[Any], alpha: NDArray[Any] | None, timecode: str | None) -> bytes:
        """Encode an image (H, W, 3) and its alpha (H, W), which DPX omits, as a file."""
        header = replace(self.header, timecode=timecode)
        if header.scan.kind == "dpx":
            return encode_dpx(self._codes(image), header)
        light = self._light(image)
        if alpha is None:
            return encode_exr(light, None, header)
        opacity = curve.to_unit(alpha)
        if self.source is None or self.source.kind != "exr":
            light = light * opacity[..., None]
        return encode_exr(light, opacity, header)

    def _codes(self, image: NDArray[Any]) -> NDArray[Any]:
        scan = self.header.scan
        if not scan.is_curved:
            return scale_codes(image, 8 * image.itemsize, scan.bit_depth)
        if image.dtype == np.uint16:
            return np.take(_codes_of_levels(scan.transfer, scan.bit_depth), image)
        return _values_to_codes(image, scan.transfer, scan.bit_depth)

    def _light(self, image: NDArray[Any]) -> NDArray[Any]:
        is_curved = self.source is not None and self.source.is_curved
        if image.dtype == np.float32:
            return curve.in_strips(curve.values_to_light, image)
        return np.take(_light_of_levels(image.dtype, None if is_curved else self.transfer), image)


def to_video(frame: Frame, scan: Scan | None) -> Frame:
    """Return a frame with video values, uint8 or uint16, converted from those of a film scan if necessary.

    Premultiplied colours are divided by alpha.
    """
    if scan is None or not scan.is_curved:
        return frame
    given: NDArray[Any] = frame.image
    alpha = None if frame.alpha is None else as_type(frame.alpha, np.uint16)
    if frame.alpha is not None and scan.kind == "exr":
        height, width = given.shape[:2]
        opacity = curve.to_unit(Resampler(width, height, ALPHA_FLAGS).apply(frame.alpha))
        light = curve.in_strips(curve.values_to_light, curve.to_unit(given))
        light /= np.where(opacity > 0, opacity, 1)[..., None]
        return replace(frame, image=curve.to_levels(curve.light_to_display(light), np.dtype(np.uint16)), alpha=alpha)
    if given.dtype == np.uint16:
        return replace(frame, image=np.take(_video_of_levels(), given), alpha=alpha)
    display = curve.in_strips(values_to_display, given)
    return replace(frame, image=curve.to_levels(display, np.dtype(np.uint16)), alpha=alpha)


def _values_to_codes(values: NDArray[Any], transfer: Transfer, bits: int) -> NDArray[Any]:
    def convert(rows: NDArray[Any]) -> NDArray[Any]:
        light = curve.values_to_light(rows)
        return curve.light_to_log(light) if transfer == "log" else np.clip(light, 0, 1)

    codes = curve.in_strips(convert, values)
    codes *= 2**bits - 1
    codes += np.float32(0.5)
    return codes.astype(np.uint16)


@cache
def _codes_of_levels(transfer: Transfer, bits: int) -> NDArray[Any]:
    light = curve.values_to_light(curve.all_codes())
    values = curve.light_to_log(light) if transfer == "log" else np.clip(light, 0, 1)
    codes: NDArray[Any] = (values * (2**bits - 1) + 0.5).astype(np.uint16)
    return codes


@cache
def _video_of_levels() -> NDArray[Any]:
    return curve.to_levels(values_to_display(curve.all_codes()), np.dtype(np.uint16))


@cache
def _light_of_levels(dtype: np.dtype[Any], transfer: str | None) -> NDArray[Any]:
    """Return the light of all levels of an integer dtype: of curved values if `transfer` is None, else of video."""
    levels = np.arange(np.iinfo(dtype).max + 1) / np.iinfo(dtype).max
    light = curve.values_to_light(levels) if transfer is None else curve.display_to_light(levels, transfer)
    return light.astype(np.float32)
