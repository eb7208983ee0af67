"""The contract: whatever comes in goes out with its frames, times, streams, tags and shape.

A table of clips, each a function whose docstring is its recipe, against rules, each a test. Every clip goes once
through `upscale_video` with a tiny network whose pictures are bicubic; source and output are compared by what PyAV's
demuxer and decoder say of each, and by ffprobe where it is installed. The program's own reading has one test.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, make_picture, run_ffmpeg
from conftest import TINY
from jobs import run_job

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, probe, read_frames
from ristn_cli.video.filters import Chain

FAST = UpscaleOptions(preset="ultrafast", crf=8)
MILLISECOND = Fraction(1, 1000)
NINETY_KHZ = Fraction(1, 90000)


@dataclass(frozen=True)
class Recipe:
    """How a clip is made in a folder, the suffix of its output, and with which options it is upscaled."""

    make: Callable[[Path], Path]
    suffix: str = ".mp4"
    options: UpscaleOptions = FAST


RECIPES: dict[str, Recipe] = {}


def recipe(suffix: str = ".mp4", **options: object) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Enter a function into the table."""

    def enter(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        RECIPES[make.__name__] = Recipe(make, suffix, replace(FAST, **options))  # type: ignore[arg-type]
        return make

    return enter


@recipe()
def smallest(folder: Path) -> Path:
    """Nine H.264 frames of 16x16, B-frames, no sound."""
    return make_clip(folder / "in.mp4", frames=9, width=16, height=16)


@recipe(".mkv")
def odd_sizes(folder: Path) -> Path:
    """Four FFV1 frames of 33x17, 4:4:4."""
    return make_clip(folder / "in.mkv", frames=4, width=33, height=17, codec="ffv1", pixel_format="yuv444p")


@recipe()
def wide(folder: Path) -> Path:
    """One H.264 frame of 4096x16."""
    return make_clip(folder / "in.mp4", frames=1, width=4096, height=16)


@recipe(".mkv")
def quarter_turn(folder: Path) -> Path:
    """Three frames of 32x48 with a display matrix of 90 degrees clockwise and pixels 4:3."""
    options = {"frames": 3, "width": 48, "height": 32, "rotation": 90, "sample_aspect_ratio": Fraction(4, 3)}
    return make_clip(folder / "in.mp4", **options)  # type: ignore[arg-type]


@recipe(".mov")
def upside_down(folder: Path) -> Path:
    """Three frames of 48x32 with a display matrix of 180 degrees."""
    return make_clip(folder / "in.mov", frames=3, width=48, height=32, rotation=180)


@recipe(".mkv")
def anamorphic(folder: Path) -> Path:
    """Four frames of 48x40 with pixels 16:11, as PAL widescreen has them."""
    return make_clip(folder / "in.mp4", frames=4, width=48, height=40, sample_aspect_ratio=Fraction(16, 11))


@recipe()
def film_rate(folder: Path) -> Path:
    """Thirteen frames at 24000/1001 a second, B-frames, a keyframe every 5."""
    return make_clip(folder / "in.mp4", frames=13, width=32, height=32, rate=Fraction(24000, 1001))


@recipe()
def variable_rate(folder: Path) -> Path:
    """Ten frames at uneven ticks of 1/90000 s, two of them one tick apart, begun half a second late, with sound."""
    ticks = [45000 + tick for tick in (0, 3003, 6006, 12012, 12500, 20000, 33333, 33334, 40000, 51000)]
    return make_clip(folder / "in.mp4", times=ticks, time_base=NINETY_KHZ, width=32, height=32, audio_tracks=1)


@recipe(".mkv")
def gaps(folder: Path) -> Path:
    """Eight frames in Matroska of which some last two and one 25 times as long as the rest."""
    ticks = [0, 1, 2, 4, 5, 30, 31, 33]
    return make_clip(folder / "in.mkv", times=ticks, time_base=Fraction(1, 25), width=32, height=32, audio_tracks=1)


@recipe()
def edit_list(folder: Path) -> Path:
    """An MP4 cut by copying at 0.3 s, between keyframes: an edit list hides the frames before."""
    whole = make_clip(folder / "whole.mp4", frames=20, width=32, height=32, audio_tracks=1)
    run_ffmpeg("-ss", "0.3", "-i", whole, "-c", "copy", folder / "in.mp4")
    return folder / "in.mp4"


@recipe()
def transport_stream(folder: Path) -> Path:
    """An MPEG transport stream of H.264 with B-frames and AAC, whose clock begins at 1.4 s."""
    plain = make_clip(folder / "a.mp4", frames=12, width=32, height=32, audio_tracks=1)
    run_ffmpeg("-i", plain, "-c", "copy", folder / "in.ts")
    return folder / "in.ts"


@recipe()
def late_sound(folder: Path) -> Path:
    """Twelve frames whose sound begins 0.2 s after them."""
    return make_clip(folder / "in.mp4", frames=12, width=32, height=32, audio_tracks=1, audio_delay=Fraction(1, 5))


@recipe(".mkv")
def five_tracks(folder: Path) -> Path:
    """Twenty-five frames with five tracks of AAC, SubRip subtitles, two chapters and a title."""
    options = {"audio_tracks": 5, "subtitles": True, "chapters": True, "title": "Five; tracks = # many"}
    return make_clip(folder / "in.mkv", frames=25, width=32, height=32, **options)  # type: ignore[arg-type]


@recipe()
def five_tracks_mp4(folder: Path) -> Path:
    """The same as MP4, with timed text."""
    options = {"audio_tracks": 5, "subtitles": True, "chapters": True, "title": "Five; tracks = # many"}
    return make_clip(folder / "in.mp4", frames=25, width=32, height=32, **options)  # type: ignore[arg-type]


@recipe(".mkv", codec="hevc")
def ten_bits(folder: Path) -> Path:
    """Three HEVC frames of 10 bits, 64x48."""
    return make_clip(folder / "in.mkv", frames=3, codec="libx265", pixel_format="yuv420p10le")


@recipe()
def tagged_colour(folder: Path) -> Path:
    """Three frames tagged BT.709 throughout, limited range, chroma at the left, though only 48 lines high."""
    tags = {"colorspace": "bt709", "color_range": "tv", "color_primaries": "bt709", "color_trc": "bt709"}
    return make_clip(folder / "in.mp4", frames=3, options=tags)


def weave(path: Path, frames: int) -> Path:
    """H.264 flagged as interlaced, top field first: the lower field's bar is 4 pixels ahead of the upper's."""
    options = {"flags": "+ildct+ilme", "crf": "4", "preset": "veryfast"}
    marks: Chain | None = None
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for index in range(frames):
            image = np.full((32, 64, 3), 60, np.uint8)
            image[0::2, 8 + 2 * index : 24 + 2 * index] = 180
            image[1::2, 12 + 2 * index : 28 + 2 * index] = 180
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            marks = marks or Chain(picture, [("setfield", "tff")])  # PyAV cannot set the flag itself
            picture = marks.apply(picture)
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@recipe()
def interlaced(folder: Path) -> Path:
    """Eight frames of 64x32 flagged as interlaced, top field first, a bar moving between the fields."""
    return weave(folder / "in.mp4", 8)


@recipe(deinterlace="field")
def interlaced_by_field(folder: Path) -> Path:
    """The same, asked for a frame a field: twice the frames, at both fields' times."""
    return weave(folder / "in.mp4", 8)


@recipe(".mov", codec="prores")
def transparent(folder: Path) -> Path:
    """Three FFV1 frames of 64x48 with an alpha channel, which is half transparent throughout."""
    with av.open(str(folder / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        for index in range(3):
            pixels = np.dstack((make_picture(index, 64, 48), np.full((48, 64), 128, np.uint8)))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="bgra")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return folder / "in.mkv"


@recipe(".mkv")
def avi_with_b_frames(folder: Path) -> Path:
    """H.264 with B-frames copied into AVI, which holds no presentation times, and its sound as PCM."""
    plain = make_clip(folder / "a.mp4", frames=12, width=32, height=32, audio_tracks=1)
    run_ffmpeg("-i", plain, "-c:v", "copy", "-c:a", "pcm_s16le", folder / "in.avi")
    return folder / "in.avi"


@dataclass(frozen=True)
class Track:
    """One stream as the demuxer gives it: packets in presentation order, and a digest of what is in them."""

    kind: str
    codec: str
    language: str | None
    title: str | None
    is_default: bool
    times: tuple[Fraction, ...]
    digest: str


@dataclass
class Reading:
    """A file as PyAV alone reads it."""

    path: Path
    tracks: list[Track] = field(default_factory=list)

    def __post_init__(self) -> None:
        with av.open(str(self.path)) as container:
            self.title = container.metadata.get("title")
            self.chapters = [
                (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
                for c in container.chapters()
            ]
            packets: dict[int, list[av.Packet]] = {stream.index: [] for stream in container.streams}
            for packet in container.demux():
                if packet.size and not packet.is_discard:
                    packets[packet.stream.index].append(packet)
            video = container.streams.video[0]
            self.size = (video.codec_context.width, video.codec_context.height)
            self.aspect = video.sample_aspect_ratio or Fraction(1)
            self.rate = video.average_rate
            for stream in container.streams:
                mine = packets[stream.index]
                shown = [p.dts if container.format.name == "avi" else p.pts for p in mine]
                body = b"".join(bytes(p) for p in mine if stream.type == "audio")
                self.tracks.append(
                    Track(
                        stream.type,
                        stream.codec_context.codec.canonical_name if stream.codec_context else "none",
                        stream.metadata.get("language"),
                        stream.metadata.get("title", stream.metadata.get("name")),
                        bool(stream.disposition & stream.disposition.default),
                        tuple(sorted(time * stream.time_base for time in shown if time is not None)),
                        hashlib.sha256(body).hexdigest(),
                    )
                )

    @property
    def video_times(self) -> list[Fraction]:
        """Presentation times of the picture's packets."""
        return list(next(track for track in self.tracks if track.kind == "video").times)

    @property
    def others(self) -> list[Track]:
        """Sound and subtitles."""
        return [track for track in self.tracks if track.kind in ("audio", "subtitle")]

    @cached_property
    def frames(self) -> list[av.VideoFrame]:
        """Every decoded picture."""
        with av.open(str(self.path)) as container:
            return list(container.decode(video=0))


@dataclass
class Case:
    """A clip and what became of it."""

    name: str
    recipe: Recipe
    source: Reading
    output: Reading

    @property
    def is_doubled(self) -> bool:
        """A frame a field was asked for."""
        return self.recipe.options.deinterlace == "field"

    @property
    def tolerance(self) -> Fraction:
        """Of times: Matroska holds milliseconds."""
        return MILLISECOND if self.recipe.suffix == ".mkv" else Fraction(0)

    @property
    def turns(self) -> int:
        """Quarter turns, counterclockwise, that make a decoded picture of the source upright."""
        return self.source.frames[0].rotation // 90


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Upscaler(RISTN(TINY).eval(), Backend(torch.device("cpu"), "fp32"), Tiling(window=8, context=1))


@pytest.fixture(scope="module", params=list(RECIPES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upscaler: Upscaler) -> Case:
    chosen = RECIPES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    source = chosen.make(folder)
    target = folder / f"out{chosen.suffix}"
    list(run_job(source, target, upscaler, chosen.options))
    assert not job_folder(target).exists()
    return Case(request.param, chosen, Reading(source), Reading(target))


def wanted_times(case: Case) -> list[Fraction]:
    """The source's frame times, with those of second fields between them where they were asked for."""
    times = case.source.video_times
    if not case.is_doubled:
        return times
    gaps = [after - before for before, after in pairwise(times)]
    gaps.append(gaps[-1])
    return [time + part * gap / 2 for time, gap in zip(times, gaps, strict=True) for part in (0, 1)]


def test_every_frame_is_output_once(case: Case) -> None:
    count = len(case.source.frames) * (2 if case.is_doubled else 1)
    assert len(case.output.frames) == count
    assert len(case.output.video_times) == count


def test_every_frame_keeps_its_time(case: Case) -> None:
    found, wanted = case.output.video_times, wanted_times(case)
    assert len(found) == len(wanted)
    grain = case.tolerance + (MILLISECOND if case.source.path.suffix == ".mkv" else 0)
    if case.source.path.suffix not in (".ts", ".avi"):  # whose clocks do not begin with the file
        assert abs(found[0] - wanted[0]) <= grain
    for number, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert abs((a - found[0]) - (b - wanted[0])) <= grain, f"frame {number}"


def test_sound_and_picture_stay_in_step(case: Case) -> None:
    """Each stream begins as long after the picture as it did; a copied one has every packet at its time."""
    for before, after in zip(case.source.others, case.output.others, strict=True):
        if before.kind == "subtitle":
            continue
        gap = (after.times[0] - case.output.video_times[0]) - (before.times[0] - case.source.video_times[0])
        # When the first picture of an AVI is shown depends on how many its decoder holds back, two here: FFmpeg's
        # estimate begins with the decoding time, `Reading` does not.
        assert abs(gap) <= (Fraction(2, 25) if case.source.path.suffix == ".avi" else 2 * MILLISECOND)
        assert len(after.times) == len(before.times)
        for a, b in zip(after.times, before.times, strict=True):
            assert abs((a - after.times[0]) - (b - before.times[0])) <= 2 * MILLISECOND


def test_every_stream_is_carried(case: Case) -> None:
    knows_default = case.source.path.suffix not in (".ts", ".avi")

    def describe(track: Track) -> tuple[object, ...]:
        return track.kind, track.language, track.title, track.is_default or not knows_default

    assert [describe(track) for track in case.output.others] == [describe(track) for track in case.source.others]
    for before, after in zip(case.source.others, case.output.others, strict=True):
        if before.kind == "audio" and case.source.path.suffix != ".ts":  # whose AAC has headers of its own
            assert (after.codec, after.digest) == (before.codec, before.digest)


def test_tags_and_chapters_are_carried(case: Case) -> None:
    assert case.output.title == case.source.title
    assert case.output.chapters == case.source.chapters
    was, now = case.source.frames[0], case.output.frames[0]
    if was.format.is_rgb:
        assert (now.colorspace, now.color_range) == (1, 1)  # BT.709, limited
    else:
        # Untagged low pictures are BT.601, limited: smpte170m and bt470bg are one matrix.
        assert now.colorspace in ({5, 6} if was.colorspace == 2 else {was.colorspace})
        assert now.color_range == (was.color_range or 1)
        assert now.color_primaries == was.color_primaries
        assert now.color_trc == was.color_trc


def test_the_picture_has_four_times_the_size_as_shown(case: Case) -> None:
    width, height = case.source.size
    upright = (height, width) if case.turns % 2 else (width, height)
    assert case.output.size == (4 * upright[0], 4 * upright[1])


def test_pixels_keep_their_shape(case: Case) -> None:
    aspect = case.source.aspect
    assert case.output.aspect == (1 / aspect if case.turns % 2 else aspect)


def test_a_rotation_is_applied_once(case: Case) -> None:
    assert case.output.frames[0].rotation == 0
    if case.is_doubled or case.source.frames[0].interlaced_frame:
        return  # their pictures are another's: tests/test_interlace.py
    for was, now in zip(case.source.frames, case.output.frames, strict=True):
        before = np.rot90(was.to_ndarray(format="gray"), case.turns).astype(float)
        height, width = before.shape
        after = now.to_ndarray(format="gray").reshape(height, 4, width, 4).mean(axis=(1, 3))
        assert np.abs(after - before).mean() < 2.5


def test_depth_is_kept(case: Case) -> None:
    def depth(frame: av.VideoFrame) -> int:
        return max(component.bits for component in frame.format.components)

    def has_alpha(frame: av.VideoFrame) -> bool:
        return any(component.is_alpha for component in frame.format.components)

    was, now = case.source.frames[0], case.output.frames[0]
    assert depth(now) >= depth(was)
    assert has_alpha(now) == has_alpha(was)


def test_any_range_gives_the_frames_of_the_whole(case: Case) -> None:
    """What `--start` and `--end` read: exactly the frames in between, with the pictures they have in the whole."""
    info = probe(case.source.path)
    options = ReadOptions(deinterlace=case.recipe.options.deinterlace, carry_alpha=case.name == "transparent")
    whole = list(read_frames(info, options))
    for first, last in ((0, 1), (len(whole) // 2, len(whole)), (len(whole) // 3, len(whole) - 1)):
        if first >= last:
            continue
        start = whole[first].time - info.start_time
        end = whole[last].time - info.start_time if last < len(whole) else None
        part = list(read_frames(info, replace(options, start=start, end=end)))
        assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
        for found, expected in zip(part, whole[first:last], strict=True):
            assert np.array_equal(found.image, expected.image)  # type: ignore[arg-type]
    assert len(list(read_frames(info, replace(options, max_frames=2)))) == min(2, len(whole))


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_ffprobe_says_the_same(case: Case) -> None:
    command = [
        "ffprobe",
        "-v",
        "error",
        "-of",
        "json",
        "-show_streams",
        "-show_packets",
        "-show_chapters",
        "-show_format",
    ]
    done = subprocess.run([*command, str(case.output.path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    (video,) = [stream for stream in found["streams"] if stream["codec_type"] == "video"]
    assert (video["width"], video["height"]) == case.output.size
    assert Fraction(video.get("sample_aspect_ratio", "1:1").replace(":", "/")) == case.output.aspect
    assert not any("rotation" in entry for entry in video.get("side_data_list", []))
    packets = [packet for packet in found["packets"] if packet["stream_index"] == video["index"]]
    times = sorted(Fraction(packet["pts_time"]) for packet in packets)
    assert len(times) == len(wanted_times(case))
    for a, b in zip(times, case.output.video_times, strict=True):
        assert abs(a - b) <= Fraction(1, 1_000_000)
    kinds = [stream["codec_type"] for stream in found["streams"] if stream["codec_type"] in ("audio", "subtitle")]
    assert kinds == [track.kind for track in case.source.others]
    tags = {name.lower(): value for name, value in found["format"].get("tags", {}).items()}
    assert tags.get("title") == case.source.title
    assert [chapter["tags"]["title"] for chapter in found["chapters"]] == [
        title for _, _, title in case.source.chapters
    ]


@pytest.mark.parametrize(
    "clip",
    [film_rate, variable_rate, gaps, edit_list, transport_stream, late_sound, avi_with_b_frames, interlaced_by_field],
)
def test_a_range_is_cut_out_whole(upscaler: Upscaler, tmp_path: Path, clip: Callable[[Path], Path]) -> None:
    """`--start` and `--end` through a whole job: the frames in between, from zero on, their sound beside them."""
    chosen = RECIPES[clip.__name__]
    source = Reading(clip(tmp_path))
    begin = source.video_times[0]
    times = wanted_times(Case(clip.__name__, chosen, source, source))
    first, last = len(times) // 3, len(times) - 2
    start, end = times[first] - begin, times[last] - begin
    target = tmp_path / "range.mp4"
    list(run_job(source.path, target, upscaler, replace(chosen.options, start=start, end=end)))
    output = Reading(target)
    grain = MILLISECOND if source.path.suffix == ".mkv" else Fraction(0)
    assert len(output.video_times) == last - first
    for a, b in zip(output.video_times, times[first:last], strict=True):
        assert abs(a - (b - times[first])) <= grain
    inside_of = [[time for time in track.times if times[first] <= time < times[last]] for track in source.others]
    assert len(output.others) == sum(bool(inside) for inside in inside_of)  # one without a packet there is left out
    for inside, after in zip(filter(None, inside_of), output.others, strict=True):
        assert abs(len(after.times) - len(inside)) <= 1
        if source.path.suffix != ".avi":
            assert abs((after.times[0]) - (inside[0] - times[first])) <= Fraction(25, 1000)  # a packet
