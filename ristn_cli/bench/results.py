"""Results of a benchmark as values and as JSON (`schema.json`), and their ratios to an older report."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ristn_cli.typed import MalformedError, brief, build, read_json

SCHEMA = "ristn-bench/2"

STAGES = ("decode", "convert_in", "spatial", "temporal", "reconstruction", "convert_out", "encode")


class BenchError(Exception):
    """A benchmark cannot be run, or its report cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds per frame of `repeats` measurements after a warm-up."""

    median: float
    lowest: float
    highest: float
    repeats: int

    @property
    def frames_per_second(self) -> float:
        """The inverse of the median."""
        return 1 / self.median


def summarize(values: list[float]) -> Timing:
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Timing(median=median, lowest=ordered[0], highest=ordered[-1], repeats=len(ordered))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine; `threads` is PyTorch's number of threads."""

    processor: str
    cores: int
    threads: int
    system: str
    python: str
    torch: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Rates of the machine in this precision, in FLOP/s and bytes/s, measured in turns with the network.

    The matrix product has 2048 rows and columns, 8192 on a GPU. The convolution is the fastest of several 3x3
    convolutions. A copy counts each byte as read and as written.
    """

    matrix_flops_per_second: float
    convolution_flops_per_second: float
    copy_bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """FLOP per finished frame, two for each multiply-accumulate of convolutions and matrix products.

    Attributes:
        network_flops: the network as defined, with each frame computed once.
        executed_flops: the engine's form of it, with context frames and overlaps of tiles.
    """

    network_flops: int
    executed_flops: int


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """Times of a clip of `frames` with `upscale_video`, and of the network alone on the same windows, in turns.

    `seconds_per_frame` covers decode, network, encode, join and verification. `total_seconds` also covers the checks
    before the plan.
    """

    frames: int
    seconds_per_frame: float
    network_seconds_per_frame: float
    ratio: float
    total_seconds: float
    preset: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The trained module in float32 and NCHW, with a window of `window` frames per frame, of which it keeps the middle.

    `ratio` is the engine's time divided by this one's, measured in turns.
    """

    window: int
    seconds_per_frame: Timing
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network, size and precision.

    Attributes:
        model: name of the network.
        weights: `released`, `file`, or `random`, which take the same time.
        parameters: number of learned values.
        width: width of the source in pixels; the output has 4x.
        height: height of the source in pixels.
        precision: fp32, fp16 or bf16.
        window: frames per window.
        context: frames at each end of a window that are read but not kept.
        tile: largest side of a tile.
        overlap: pixels that a tile reads beyond its own area, on each side.
        tiles: tiles per frame.
        network: the engine from images in memory to images in memory, in windows as in the middle of a long video.
        frames_per_second: rate of `network`.
        stages: seconds per frame of each of STAGES; null if not measured.
        arithmetic: counted operations.
        limits: measured rates.
        network_share: `network_flops` per second divided by the matrix rate.
        executed_share: `executed_flops` per second divided by the matrix rate.
        end_to_end: null if not measured.
        peak_memory_bytes: peak resident memory of the process; null if the system does not report it.
        device_memory_bytes: PyTorch's peak allocation on a CUDA device; null on other devices.
        bicubic_seconds_per_frame: ffmpeg alone on the same clip: decode, bicubic `scale`, encode; null if not measured.
        reference: null if not requested.
    """

    model: str
    weights: str
    parameters: int
    width: int
    height: int
    precision: str
    window: int
    context: int
    tile: int
    overlap: int
    tiles: int
    network: Timing
    frames_per_second: float
    stages: dict[str, float | None]
    arithmetic: Arithmetic
    limits: Limits
    network_share: float
    executed_share: float
    end_to_end: EndToEnd | None
    peak_memory_bytes: int | None
    device_memory_bytes: int | None
    bicubic_seconds_per_frame: float | None
    reference: Reference | None

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Identifies a case within a report."""
        return self.model, self.width, self.height, self.precision

    def __post_init__(self) -> None:
        if set(self.stages) != set(STAGES):
            raise ValueError(f"stages are not {', '.join(STAGES)}")


@dataclass(frozen=True, kw_only=True)
class Report:
    version: str
    created: str
    machine: Machine
    cases: list[Case]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, starting with the schema's name."""
        return {"schema": SCHEMA} | asdict(self)


def read_report(path: Path) -> Report:
    """Read a report written with `--json` or `--output`.

    Raises:
        BenchError: the file is not a report, or has another schema version.
        OSError: the file cannot be read.
    """
    try:
        values = build(dict[str, Any], read_json(path), str(path))
        found = build(str, values.pop("schema", None), f"{path}: schema")
    except MalformedError as error:
        raise BenchError(f"{error}: not a report of ristn bench; expected JSON from --output") from error
    if found != SCHEMA:
        raise BenchError(f"{path}: has schema {brief(found)}, expected {SCHEMA!r}; measure again with this version")
    try:
        report: Report = build(Report, values)
    except MalformedError as error:
        raise BenchError(f"{path}: is not a complete report of ristn bench ({error}); measure again") from error
    return report


@dataclass(frozen=True)
class Comparison:
    """A figure of a case in a new and an older report."""

    case: str
    figure: str
    now: float | None
    then: float | None

    @property
    def ratio(self) -> float | None:
        """New over older; below 1 means less. None if a figure is missing."""
        return self.now / self.then if self.now is not None and self.then else None


def figures(case: Case) -> Iterator[tuple[str, float | None]]:
    """Yield the figures of a case that `compare_reports` compares."""
    yield "network, s per frame", case.network.median
    for name in STAGES:
        yield f"{name}, s per frame", case.stages[name]
    yield "end to end, s per frame", None if case.end_to_end is None else case.end_to_end.seconds_per_frame
    yield "bicubic, s per frame", case.bicubic_seconds_per_frame
    yield "peak memory, bytes", case.peak_memory_bytes
    yield "share of the matrix rate", case.executed_share
    yield "matrix rate, FLOP/s", case.limits.matrix_flops_per_second
    yield "convolution rate, FLOP/s", case.limits.convolution_flops_per_second
    yield "copy bandwidth, bytes/s", case.limits.copy_bytes_per_second


def compare_reports(now: Report, then: Report) -> list[Comparison]:
    """Compare each figure of the cases that both reports have, in the order of `now`."""
    older = {case.key: case for case in then.cases}
    rows = []
    for case in now.cases:
        if case.key not in older:
            continue
        name = f"{case.model} {case.width}x{case.height} {case.precision}"
        pairs = zip(figures(case), figures(older[case.key]), strict=True)
        rows += [Comparison(name, figure, value, before) for (figure, value), (_, before) in pairs]
    return rows
