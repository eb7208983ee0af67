"""The simulation of a cluster against what can be worked out by hand, and the tables that the documents quote."""

import random
import re
import shlex
from pathlib import Path

import pytest
from simulate_cluster import Costs, main, simulate

ROOT = Path(__file__).parents[2]


FREE = {
    "frames": 1000,
    "seconds_per_frame": 2.0,
    "segment_seconds": 0.0,
    "start_seconds": 0.0,
    "planning_fps": 1e12,
    "source_megabytes": 0.0,
    "part_megabytes_per_frame": 0.0,
    "failure_hours": 0.0,
}

OUTPUT = {"part_megabytes_per_frame": 1.0, "disk_megabytes": 100.0}


@pytest.mark.parametrize(
    ("costs", "speeds", "length", "seconds"),
    [
        ({}, [1.0], 100, 2000),
        ({}, [1.0, 1.0], 100, 1000),
        ({}, [1.0, 1.0, 1.0], 100, 800),  # ten segments of 200 s: four of one worker
        ({}, [2.0, 1.0], 100, 700),  # seven segments of 100 s, three of 200 s
        ({"segment_seconds": 3.0, "start_seconds": 5.0}, [1.0], 100, 2000 + 10 * 3 + 5),
        ({"planning_fps": 10.0}, [100.0], 100, 100 + 2),  # the last segment is known after 100 s
        (
            {"part_megabytes_per_frame": 1.0, "link_megabytes": 100.0, "disk_megabytes": 100.0},
            [1.0],
            100,
            2000 + 10 + 30,
        ),
        # Twenty workers end together and send 50 MB each, one after another, then three times 1000 MB for the disk.
        (
            {"part_megabytes_per_frame": 1.0, "link_megabytes": 10.0, "disk_megabytes": 100.0},
            [1.0] * 20,
            50,
            100 + 100 + 30,
        ),
        ({"source_megabytes": 500.0, "link_megabytes": 10.0, "is_shared": False}, [1.0, 1.0], 500, 50 + 50 + 1000),
    ],
)
def test_times_are_those_worked_out_by_hand(
    costs: dict[str, float], speeds: list[float], length: int, seconds: float
) -> None:
    outcome = simulate(Costs(**(FREE | costs)), speeds, length, random.Random(0))
    assert outcome.seconds == pytest.approx(seconds, rel=1e-6)
    assert outcome.ideal_seconds == pytest.approx(2000 / sum(speeds))
    assert outcome.failures == 0


def test_failures_cost_time_and_no_segment() -> None:
    costs = Costs(**(FREE | {"failure_hours": 0.05, "start_seconds": 5.0, "hang_share": 0.0}))
    calm = Costs(**(FREE | {"start_seconds": 5.0}))
    speeds = [1.0, 0.5, 2.0]
    outcome = simulate(costs, speeds, 50, random.Random(0))
    assert outcome.finished == 20
    assert outcome.failures > 0
    assert outcome.seconds > simulate(calm, speeds, 50, random.Random(0)).seconds


def test_a_last_segment_may_be_shorter() -> None:
    outcome = simulate(Costs(**FREE), [1.0], 300, random.Random(0))
    assert (outcome.finished, outcome.seconds) == (4, pytest.approx(2000))


def test_the_documents_quote_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    quoted = re.findall(r"```\npython tools/simulate_cluster.py(.*)\n```\n\n((?:\|.*\n)+)", text)
    assert len(quoted) >= 2
    for arguments, rows in quoted:
        main(shlex.split(arguments))
        assert capsys.readouterr().out == rows
