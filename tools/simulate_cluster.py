"""Simulate how long `ristn upscale --ray` takes on a cluster of unequal workers that fail.

    python tools/simulate_cluster.py
    python tools/simulate_cluster.py --seconds-per-frame 0.1 --planning-fps 400 --workers 8 64

Needs only Python. Every cost is an option; docs/scaling.md states the defaults.
"""

import argparse
import heapq
import math
import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of a job. A worker of speed 1 takes `seconds_per_frame`; a megabyte is 10^6 bytes.

    Attributes:
        frames: frames of the job.
        seconds_per_frame: network, decoding and encoding of one frame by a worker of speed 1.
        segment_seconds: overhead per segment: seeking, filling the pipeline, one message and its answer.
        start_seconds: time until a started or restarted worker takes its first segment.
        planning_fps: frames per second that the driver decodes to find the segments.
        source_megabytes: size of the source.
        part_megabytes_per_frame: size of the output per frame.
        link_megabytes: megabytes per second between the driver, or the shared disk, and all workers together.
        disk_megabytes: megabytes per second of the driver's disk. Each byte is hashed, joined and read again.
        is_shared: workers see the source, so only what they read of it crosses the link, once in total.
        failure_hours: mean time between failures of a worker; 0 for none.
        hang_share: share of failures that are hangs.
        stall_seconds: time without activity after which a worker counts as hung.
    """

    frames: int = 172_800
    seconds_per_frame: float = 10.0
    segment_seconds: float = 2.0
    start_seconds: float = 20.0
    planning_fps: float = 60.0
    source_megabytes: float = 5_000.0
    part_megabytes_per_frame: float = 0.25
    link_megabytes: float = 110.0
    disk_megabytes: float = 300.0
    is_shared: bool = True
    failure_hours: float = 24.0
    hang_share: float = 0.1
    stall_seconds: float = 900.0


@dataclass(frozen=True)
class Outcome:
    """Result of a simulated job.

    Attributes:
        seconds: total time.
        ideal_seconds: time of the same workers if only frames cost anything.
        failures: number of worker failures.
        finished: number of segments.
        link_share: share of the time in which the link was busy.
        planning_seconds: time at which the last segment was known.
    """

    seconds: float
    ideal_seconds: float
    failures: int
    finished: int
    link_share: float
    planning_seconds: float

    @property
    def efficiency(self) -> float:
        return self.ideal_seconds / self.seconds


def draw_speeds(workers: int, generator: random.Random) -> list[float]:
    """Draw speeds from half to twice the median, uniform in their logarithm."""
    return [2.0 ** generator.uniform(-1, 1) for _ in range(workers)]


def simulate(costs: Costs, speeds: list[float], segment_frames: int, generator: random.Random) -> Outcome:
    """Simulate a job event by event: free workers take segments, and return them on failure."""
    count = math.ceil(costs.frames / segment_frames)
    sizes = [min(segment_frames, costs.frames - index * segment_frames) for index in range(count)]
    order = iter(range(1, 1 << 60))
    events: list[tuple[float, int, str, int, int]] = []  # when, order, what, worker, segment
    link_free = link_busy = 0.0

    def cross_link(now: float, megabytes: float) -> float:
        """Return when this many megabytes have crossed the link, which transfers in order."""
        nonlocal link_free, link_busy
        taken = megabytes / costs.link_megabytes
        link_free = max(link_free, now) + taken
        link_busy += taken
        return link_free

    def push(when: float, what: str, worker: int, segment: int = 0) -> None:
        heapq.heappush(events, (when, next(order), what, worker, segment))

    for index in range(count):
        push(min(costs.frames, (index + 1) * segment_frames) / costs.planning_fps, "planned", 0, index)
    planning_seconds = costs.frames / costs.planning_fps
    for worker in range(len(speeds)):
        push(costs.start_seconds, "started", worker)
    waiting: deque[int] = deque()
    idle: deque[int] = deque()
    finished = failures = 0
    now = 0.0
    while finished < count:
        now, _, what, worker, segment = heapq.heappop(events)
        match what:
            case "planned":
                waiting.append(segment)
            case "failed":
                failures += 1
                waiting.appendleft(segment)
                push(now + costs.start_seconds, "started", worker)
            case "started":
                if not costs.is_shared:
                    push(cross_link(now, costs.source_megabytes), "ready", worker)
                    continue
                idle.append(worker)
            case "ready":
                idle.append(worker)
            case "computed":  # requests for the link are in order of time
                push(cross_link(now, sizes[segment] * costs.part_megabytes_per_frame), "arrived", worker, segment)
            case "arrived":
                finished += 1
                idle.append(worker)
        while waiting and idle:
            segment, worker = waiting.popleft(), idle.popleft()
            begins = now
            if costs.is_shared:
                begins = cross_link(now, costs.source_megabytes * sizes[segment] / costs.frames)
            ends = begins + costs.segment_seconds + sizes[segment] * costs.seconds_per_frame / speeds[worker]
            fails = math.inf
            if costs.failure_hours:
                fails = now + generator.expovariate(1 / (3600 * costs.failure_hours))
            if fails < ends:
                hangs = generator.random() < costs.hang_share
                push(fails + (costs.stall_seconds if hangs else 0.0), "failed", worker, segment)
            else:
                push(ends, "computed", worker, segment)
    output = costs.frames * costs.part_megabytes_per_frame
    end = now + 3 * output / costs.disk_megabytes
    ideal = costs.frames * costs.seconds_per_frame / sum(speeds)
    return Outcome(end, ideal, failures, finished, link_busy / end, planning_seconds)


def mean_outcome(costs: Costs, workers: int, segment_frames: int, runs: int) -> Outcome:
    """Return the mean of several simulations, with the same speeds and failures for every segment length."""
    outcomes = []
    for run in range(runs):
        generator = random.Random(1000 * workers + run)
        outcomes.append(simulate(costs, draw_speeds(workers, generator), segment_frames, generator))

    def mean(name: str) -> float:
        return sum(getattr(outcome, name) for outcome in outcomes) / runs

    return Outcome(
        mean("seconds"),
        mean("ideal_seconds"),
        round(mean("failures")),
        outcomes[0].finished,
        mean("link_share"),
        mean("planning_seconds"),
    )


def table(costs: Costs, workers: list[int], lengths: list[int], runs: int) -> list[str]:
    """Return rows of a Markdown table: efficiency by segment length, and figures of the best one."""
    rows = [
        "| workers | " + " | ".join(f"{length}" for length in lengths) + " | best: hours | failures | link busy |",
        "|---|" + "---|" * (len(lengths) + 3),
    ]
    for number in workers:
        outcomes = [mean_outcome(costs, number, length, runs) for length in lengths]
        best = max(outcomes, key=lambda outcome: outcome.efficiency)
        shares = " | ".join(f"{100 * outcome.efficiency:.0f} %" for outcome in outcomes)
        rows.append(
            f"| {number} | {shares} | {best.seconds / 3600:.1f} | {best.failures} | {100 * best.link_share:.0f} % |"
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in vars(Costs()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--lengths", type=int, nargs="+", default=[24, 60, 120, 240, 480, 960, 1920])
    parser.add_argument("--runs", type=int, default=3)
    options = vars(parser.parse_args(arguments))
    workers, lengths, runs = options.pop("workers"), options.pop("lengths"), options.pop("runs")
    print("\n".join(table(Costs(**options), workers, lengths, runs)))


if __name__ == "__main__":
    main()
