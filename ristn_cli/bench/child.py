"""Program that measures the case in a request file. Its own process makes its peak memory meaningful."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ristn_cli.bench.measure import Request, measure_case
from ristn_cli.bench.results import BenchError
from ristn_cli.engine.allocator import keep_memory
from ristn_cli.engine.device import DeviceError
from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.weights import WeightsError

EXPECTED = (BenchError, DeviceError, OutOfMemory, WeightsError, OSError)


def expected_errors() -> tuple[type[Exception], ...]:
    """Return the errors that are reported in one line. Video errors are imported only if a video was read, because the
    network alone needs no PyAV.
    """
    if "ristn_cli.video" not in sys.modules:
        return EXPECTED
    from ristn_cli.job.manifest import JobError
    from ristn_cli.video import VideoError

    return (*EXPECTED, JobError, VideoError)


def main(request_file: str, result_file: str) -> None:
    """Read the request and write the case, or the error, as JSON."""
    folder = Path(request_file).parent
    try:
        result = asdict(measure_case(Request(**json.loads(Path(request_file).read_text(encoding="utf-8"))), folder))
    except expected_errors() as error:
        result = {"error": str(error)}
    Path(result_file).write_text(json.dumps(result, allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    keep_memory()  # as in `ristn`, before any thread starts
    main(*sys.argv[1:])
