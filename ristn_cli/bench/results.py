"""What a benchmark found, as values and as JSON of a stated form (`schema.json`), and its ratio to an older one."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ristn_cli.typed import MalformedError, brief, build, read_json

SCHEMA = "ristn-bench/2"

STAGES = ("decode", "convert_in", "spatial", "temporal", "reconstruction", "convert_out", "encode")


class BenchError(Exception):
    """A benchmark that cannot be run or read."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds a frame, of `repeats` measurements after the warm-up."""

    median: float
    lowest: float
    highest: float
    repeats: int

    @property
    def frames_per_second(self) -> float:
        """The median's inverse."""
        return 1 / self.median


def summarize(values: list[float]) -> Timing:
    """Median and spread of one or more measurements."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Timing(median=median, lowest=ordered[0], highest=ordered[-1], repeats=len(ordered))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured; `threads` are those of PyTorch."""

    processor: str
    cores: int
    threads: int
    system: str
    python: str
    torch: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the machine does in this precision, in FLOP and bytes a second, measured in the minutes of the network.

    `matrix` is a product of two square matrices of 2048, on a GPU of 8192, `convolution` the best of several 3x3
    convolutions, `copy` a copy from memory to memory, bytes read and written both counted.
    """

    matrix_flops_per_second: float
    convolution_flops_per_second: float
    copy_bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """FLOP a finished frame, two for each multiply-accumulate of convolutions and matrix products.

    `network`: of the network as it is defined, each frame computed once. `executed`: of the engine's form of it, with
    context frames and overlaps of tiles.
    """

    network_flops: int
    executed_flops: int


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """A clip of `frames` through `upscale_video`, and the network alone on the same windows, in turns.

    `seconds_per_frame` is from the plan to the finished file: decode, network, encode, join, verify. `total_seconds`
    are of the whole call, with the checks before the plan.
    """

    frames: int
    seconds_per_frame: float
    network_seconds_per_frame: float
    ratio: float
    total_seconds: float
    preset: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The trained module in float32, NCHW: for each frame a window of `window` frames, of which the middle is kept.

    `ratio` is the engine's time over this one's, measured in turns.
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
        parameters: learned values.
        width: of the source in pixels; the output has 4x.
        height: of the source.
        precision: fp32, fp16 or bf16.
        window: frames read together.
        context: of these, read but not kept at each end.
        tile: largest side of a tile.
        overlap: pixels read beyond a tile's share, on each side.
        tiles: tiles of a frame.
        network: the engine from images in memory to images in memory, in windows as in the middle of a long video.
        frames_per_second: of `network`.
        stages: seconds a frame of each of STAGES; null where not measured.
        arithmetic: counted.
        limits: measured.
        network_share: `network_flops` a second over the matrix rate.
        executed_share: `executed_flops` a second over the matrix rate.
        end_to_end: null where not measured.
        peak_memory_bytes: resident peak of a process that does all of this; null where the system does not tell.
        device_memory_bytes: peak that PyTorch allocated on a CUDA device; null elsewhere.
        bicubic_seconds_per_frame: ffmpeg alone on the same clip, decode, bicubic `scale`, encode; null where not
            measured.
        reference: null where not asked for.
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
        """What tells cases of one report apart."""
        return self.model, self.width, self.height, self.precision

    def __post_init__(self) -> None:
        if set(self.stages) != set(STAGES):
            raise ValueError(f"stages are not {', '.join(STAGES)}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """All cases of one run."""

    version: str
    created: str
    machine: Machine
    cases: list[Case]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the schema's name first."""
        return {"schema": SCHEMA} | asdict(self)


def read_report(path: Path) -> Report:
    """A report that `--json` or `--output` wrote.

    Raises:
        BenchError: it is none, or of another version of the form.
        OSError: it cannot be read.
    """
    try:
        values = build(dict[str, Any], read_json(path), str(path))
        found = build(str, values.pop("schema", None), f"{path}: schema")
    except MalformedError as error:
        raise BenchError(f"{error}: not a report of ristn bench; expected JSON made by its --output") from error
    if found != SCHEMA:
        raise BenchError(f"{path}: has the form {brief(found)}, expected {SCHEMA!r}: measure again with this version")
    try:
        report: Report = build(Report, values)
    except MalformedError as error:
        raise BenchError(f"{path}: not a whole report of ristn bench ({error}); measure again") from error
    return report


@dataclass(frozen=True)
class Comparison:
    """A figure of a case now and in an older report; `ratio` is now over then, None when one of them is missing."""

    case: str
    figure: str
    now: float | None
    then: float | None

    @property
    def ratio(self) -> float | None:
        """Below 1 is less than then."""
        return self.now / self.then if self.now is not None and self.then else None


def figures(case: Case) -> Iterator[tuple[str, float | None]]:
    """The figures of a case that two reports are compared by."""
    yield "network, s a frame", case.network.median
    for name in STAGES:
        yield f"{name}, s a frame", case.stages[name]
    yield "end to end, s a frame", None if case.end_to_end is None else case.end_to_end.seconds_per_frame
    yield "bicubic, s a frame", case.bicubic_seconds_per_frame
    yield "peak memory, bytes", case.peak_memory_bytes
    yield "share of the matrix rate", case.executed_share
    yield "matrix rate, FLOP/s", case.limits.matrix_flops_per_second
    yield "convolution rate, FLOP/s", case.limits.convolution_flops_per_second
    yield "copy bandwidth, bytes/s", case.limits.copy_bytes_per_second


def compare_reports(now: Report, then: Report) -> list[Comparison]:
    """Each figure of the cases that both reports have, in the order of `now`."""
    older = {case.key: case for case in then.cases}
    rows = []
    for case in now.cases:
        if case.key not in older:
            continue
        name = f"{case.model} {case.width}x{case.height} {case.precision}"
        pairs = zip(figures(case), figures(older[case.key]), strict=True)
        rows += [Comparison(name, figure, value, before) for (figure, value), (_, before) in pairs]
    return rows
