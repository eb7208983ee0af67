"""The video package against clips with known pixels: times, colours, streams, geometry, and every kind of bad file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    CHAPTERS,
    encode_planes,
    has_box,
    make_clip,
    make_picture,
    make_sound,
    packet_times,
    run_ffmpeg,
)
from colours import LUMA_WEIGHTS, code_values, color_bars, grey_ramp

from ristn_cli.video import (
    CODECS,
    Color,
    Frame,
    FrameWriter,
    MasteringMetadata,
    StreamInfo,
    VideoError,
    VideoInfo,
    check_mux,
    choose_codec,
    has_variable_rate,
    join_and_mux,
    part_suffix,
    probe,
    read_frames,
    read_image,
    try_mux,
    verify,
    write_image,
)
from ristn_cli.video.muxing.parts import read_layout
from ristn_cli.video.writing import encoder

NINETY_KHZ = Fraction(1, 90000)
# Uneven gaps, two frames one tick of 1/30000 s apart, a late start; no multiple of any frame rate.
VARIABLE_TIMES = [45000 + tick for tick in (0, 3003, 6006, 12012, 12500, 20000, 33333, 33336, 40000, 50000, 51000)]


def write_parts(
    info: VideoInfo,
    frames: Sequence[Frame],
    folder: Path,
    *,
    count: int = 2,
    scale: int = 4,
    codec: str | None = None,
) -> list[Path]:
    """The frames, each pixel repeated `scale` times, in `count` parts, as the identity network would have them."""
    size = -(-len(frames) // count)
    parts = []
    for number, first in enumerate(range(0, len(frames), size), start=1):
        part = folder / f"part-{number}{part_suffix(codec)}"
        with FrameWriter(
            part,
            width=info.width * scale,
            height=info.height * scale,
            rate=info.rate,
            time_base=info.time_base,
            color=info.color,
            sample_aspect_ratio=info.sample_aspect_ratio,
            codec=codec,
            crf=8,
            preset="veryfast",
        ) as writer:
            for frame in frames[first : first + size]:
                image = frame.image.repeat(scale, 0).repeat(scale, 1)
                writer.write(Frame(image, frame.time, frame.duration))
        parts.append(part)
    return parts


def upscale(
    clip: Path,
    target: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    codec: str | None = None,
    count: int = 2,
    **choices: bool,
) -> VideoInfo:
    """What a job does, with pixel repetition for a network: read, write parts, join, verify; the output's probe."""
    info = probe(clip)
    plan = check_mux(info, target, codec=codec, **choices)
    frames = list(read_frames(info, start=start, end=end))
    parts = write_parts(info, frames, target.parent, count=count, codec=codec)
    join_and_mux(parts, info, target, start=start, end=end, **choices)
    verify(
        target,
        frames=len(frames),
        width=4 * info.width,
        height=4 * info.height,
        source=info,
        start=start,
        end=end,
        plan=plan,
    )
    return probe(target)


class TestProbe:
    def test_describes_a_clip(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", frames=25, audio_tracks=2, subtitles=True, chapters=True, title="A clip")
        info = probe(clip)
        assert (info.width, info.height, info.rate) == (64, 48, 25)
        assert (info.codec, info.bit_depth, info.pixel_format) == ("h264", 8, "yuv420p")
        assert [stream.kind for stream in info.streams] == ["video", "audio", "audio", "subtitle"]
        assert [stream.language for stream in info.streams[1:]] == ["eng", "deu", "fra"]
        assert info.streams[2].title == "track 1"
        assert info.streams[2].dispositions == ("comment",)
        assert {"audio", "subtitle"} <= {stream.kind for stream in info.streams}
        assert info.metadata["title"] == "A clip"
        assert [(chapter.start, chapter.end) for chapter in info.chapters] == [(a, b) for a, b, _ in CHAPTERS]
        assert not any((info.is_interlaced, info.has_alpha, info.is_image_sequence, info.is_still, info.rotation))

    @pytest.mark.parametrize(("height", "matrix"), [(576, "smpte170m"), (720, "bt709")])
    def test_takes_untagged_video_as_players_do(self, tmp_path: Path, height: int, matrix: str) -> None:
        info = probe(make_clip(tmp_path / "a.mp4", frames=1, width=64, height=height))
        assert info.color.matrix == info.color.range == "unspecified"
        assert (info.color.conversion_matrix, info.color.conversion_range) == (matrix, "tv")

    def test_reads_every_tag(self, tmp_path: Path) -> None:
        clip = tmp_path / "a.mp4"
        color = Color("bt2020nc", "tv", "bt2020", "smpte2084", "topleft")
        mastering = MasteringMetadata(
            "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)", "1000,400"
        )
        image = np.full((32, 64, 3), 30000, np.uint16)
        with FrameWriter(
            clip, width=64, height=32, rate=Fraction(25), time_base=Fraction(1, 25), color=color, mastering=mastering
        ) as writer:
            writer.write(Frame(image, Fraction(0)))
        info = probe(clip)
        assert info.color == Color("bt2020nc", "tv", "bt2020", "smpte2084", "topleft", "smpte170m", "tv")
        assert info.color.is_hdr
        assert info.mastering == mastering
        assert (info.codec, info.bit_depth) == ("hevc", 10)


class TestTime:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
    @pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001)])
    def test_constant_rate(self, tmp_path: Path, suffix: str, rate: Fraction) -> None:
        info = probe(make_clip(tmp_path / f"a{suffix}", frames=7, rate=rate))
        frames = list(read_frames(info))
        grain = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
        assert abs(info.rate - rate) < Fraction(1, 100)
        assert all(abs(frame.time - k / rate) <= grain for k, frame in enumerate(frames))
        assert all(a.time + a.duration == b.time for a, b in pairwise(frames))
        assert abs(frames[-1].duration - 1 / rate) <= grain
        for index, frame in enumerate(frames):
            expected = make_picture(index, 64, 48)
            assert np.abs(frame.image.astype(int) - expected).mean() < 1.5

    def test_variable_rate_is_read_exactly(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ)
        frames = list(read_frames(clip))
        assert [frame.time for frame in frames] == [tick * NINETY_KHZ for tick in VARIABLE_TIMES]

    @pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "prores"])
    @pytest.mark.parametrize(
        ("time_base", "ticks"),
        [
            (NINETY_KHZ, VARIABLE_TIMES),
            (Fraction(1001, 24000), [240, 241, 242, 243, 244, 245]),
            (Fraction(1, 1_000_000), [10_000_000 + 33_367 * k for k in range(6)]),
        ],
    )
    def test_parts_hold_times_exactly(self, tmp_path: Path, codec: str, time_base: Fraction, ticks: list[int]) -> None:
        part = tmp_path / f"part{part_suffix(codec)}"
        times = [tick * time_base for tick in ticks]
        ends = [*times[1:], times[-1] + 3 * (times[1] - times[0])]
        with FrameWriter(
            part,
            width=64,
            height=48,
            rate=Fraction(30),
            time_base=time_base,
            color=Color(),
            codec=codec,
            preset="ultrafast" if codec == "av1" else "medium",
        ) as writer:
            for index, (time, end) in enumerate(zip(times, ends, strict=True)):
                writer.write(Frame(make_picture(index, 64, 48), time, end - time))
        frames = list(read_frames(part))
        assert writer.frames_written == len(times)
        assert [frame.time for frame in frames] == times
        assert frames[-1].duration == ends[-1] - times[-1]

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_start_and_end_are_frame_exact(self, tmp_path: Path, suffix: str) -> None:
        info = probe(make_clip(tmp_path / f"a{suffix}", frames=24))
        whole = list(read_frames(info))
        for first, last in ((0, 24), (1, 2), (7, 13), (10, 24), (23, 24), (12, 12)):
            start, end = whole[first].time if first < 24 else Fraction(1), Fraction(last, 25)
            part = list(read_frames(info, start=start, end=end))
            assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
            assert all((a.image == b.image).all() for a, b in zip(part, whole[first:last], strict=True))
        between = list(read_frames(info, start=Fraction("0.201"), end=Fraction("0.30")))
        assert [frame.time for frame in between] == [Fraction(6, 25), Fraction(7, 25)]
        assert between[-1].duration == Fraction("0.02")
        assert len(list(read_frames(info, start=Fraction("0.2"), max_frames=3))) == 3
        assert list(read_frames(info, max_frames=0)) == []
        assert list(read_frames(info, start=Fraction(9))) == []

    def test_start_counts_from_the_first_frame(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "a.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ))
        frames = list(read_frames(info, start=Fraction(6007, 90000)))
        assert info.start_time == Fraction(1, 2)
        assert frames[0].time == VARIABLE_TIMES[3] * NINETY_KHZ

    @pytest.mark.parametrize("codec", ["h264", "mpeg4"])
    def test_avi_with_b_frames_is_whole_and_in_order(self, tmp_path: Path, codec: str) -> None:
        """AVI holds no presentation times: frame k of the display is shown at the k-th decoding time."""
        clip = tmp_path / "in.avi"
        copied = ["-c", "copy"] if codec == "h264" else ["-c:v", "mpeg4", "-bf", "2", "-q:v", "2", "-c:a", "copy"]
        run_ffmpeg("-i", make_clip(tmp_path / "a.mp4", frames=16, audio_tracks=1), *copied, clip)
        info = probe(clip)
        assert (info.codec, info.frame_count, info.rate) == (codec, 16, 25)
        assert not has_variable_rate(info)
        damage: list[str] = []
        frames = list(read_frames(info, on_damage=damage.append))
        assert damage == []
        assert [frame.time - frames[0].time for frame in frames] == [Fraction(k, 25) for k in range(16)]
        assert frames[-1].duration == Fraction(1, 25)
        for index, frame in enumerate(frames):
            assert np.abs(frame.image.astype(int) - make_picture(index, 64, 48)).mean() < 2
        later = list(read_frames(info, start=Fraction(7, 25), end=Fraction(9, 25)))
        assert [frame.time for frame in later] == [frame.time for frame in frames[7:9]]
        assert np.array_equal(later[0].image, frames[7].image)
        assert len(list(read_frames(upscale(clip, tmp_path / "out.mkv")))) == 16
        upscale(clip, tmp_path / "cut.mp4", start=Fraction(7, 25), end=Fraction(12, 25))

    def test_times_must_lie_on_the_time_base(self, tmp_path: Path) -> None:
        with (
            pytest.raises(VideoError, match="does not lie on the time base 1/25"),
            FrameWriter(
                tmp_path / "a.mp4", width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=Color()
            ) as writer,
        ):
            writer.write(Frame(make_picture(0, 64, 48), Fraction(1, 30)))


class TestColor:
    @pytest.mark.parametrize("picture", [grey_ramp(), color_bars()], ids=["ramp", "bars"])
    @pytest.mark.parametrize("range_", ["tv", "pc"])
    @pytest.mark.parametrize("matrix", list(LUMA_WEIGHTS))
    @pytest.mark.parametrize("bits", [8, 10])
    def test_decode_identity_encode_keeps_every_value(
        self, tmp_path: Path, bits: int, matrix: str, range_: str, picture: np.ndarray
    ) -> None:
        """Known code values in; RGB by the definition; the same code values out: mean error under one code value."""
        dtype = np.uint8 if bits == 8 else np.uint16
        codes = code_values(picture, bits, matrix, range_).round().clip(0, 2**bits - 1).astype(dtype)
        planes = [codes[0], codes[1, ::2, ::2], codes[2, ::2, ::2]]
        name = "yuv420p" if bits == 8 else "yuv420p10le"
        source = probe(encode_planes(tmp_path / "in.mp4", planes, name, matrix=matrix, range_=range_))
        assert (source.color.matrix, source.color.range, source.bit_depth) == (matrix, range_, bits)
        (frame,) = read_frames(source)
        inner = np.arange(256) % 32
        inner = (inner > 3) & (inner < 28)  # chroma of neighbouring bars mixes at their edges
        if picture[0, 0, 0] == picture[0, 100, 0]:
            inner[:] = True
        white = 255 if bits == 8 else 65535
        error = (frame.image / white - picture)[:, inner] * (2**bits - 1)
        assert np.abs(error).mean() < 1
        assert abs(error.mean()) < 0.4

        target = tmp_path / "out.mp4"
        with FrameWriter(
            target,
            width=256,
            height=32,
            rate=Fraction(25),
            time_base=Fraction(1, 25),
            color=source.color,
            codec="ffv1",
        ) as writer:
            writer.write(frame)
        with av.open(str(target)) as container:
            decoded = next(container.decode(video=0))
            assert decoded.format.name == name
            for plane, expected in zip(decoded.planes, planes, strict=True):
                found = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
                columns = inner if plane.width == 256 else inner[::2]
                difference = found[:, columns].astype(float) - expected[:, columns]
                assert np.abs(difference).mean() < 1
        written = probe(target).color
        assert (written.matrix, written.range) == (matrix, range_)

    def test_tags_are_in_stream_and_bitstream(self, tmp_path: Path) -> None:
        color = Color("smpte170m", "pc", "smpte170m", "smpte170m", "center")
        target = tmp_path / "a.mp4"
        with FrameWriter(
            target, width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=color
        ) as writer:
            writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
        assert has_box(target, b"colr")
        raw = tmp_path / "a.h264"
        run_ffmpeg("-i", target, "-c", "copy", raw)
        for path in (target, raw):
            found = probe(path).color
            assert (found.matrix, found.range, found.primaries, found.transfer) == (
                "smpte170m",
                "pc",
                *["smpte170m"] * 2,
            )
            assert found.chroma_location == "center"

    def test_untagged_matrix_is_written_as_it_was_taken(self, tmp_path: Path) -> None:
        """480 lines become 1920: left untagged, players would turn from BT.601 to BT.709."""
        info = probe(make_clip(tmp_path / "a.mp4", frames=1, width=64, height=480))
        (part,) = write_parts(info, list(read_frames(info)), tmp_path, count=1)
        assert (probe(part).color.matrix, probe(part).color.range) == ("smpte170m", "tv")
        assert probe(part).color.primaries == "unspecified"

    def test_refuses_a_matrix_it_does_not_know(self, tmp_path: Path) -> None:
        planes = [np.full((32, 64), 90, np.uint8), *[np.full((16, 32), 128, np.uint8)] * 2]
        clip = encode_planes(tmp_path / "a.mp4", planes, "yuv420p", matrix="ycgco", range_="tv")
        with pytest.raises(VideoError, match=r"a\.mp4: the colour matrix is ycgco.*convert the file"):
            list(read_frames(clip))

    def test_ten_bits_stay_ten_bits(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=3, codec="libx265", pixel_format="yuv420p10le")
        output = upscale(clip, tmp_path / "out.mp4")
        frames = list(read_frames(output))
        assert (output.codec, output.pixel_format) == ("hevc", "yuv420p10le")
        assert frames[0].image.dtype == np.uint16
        expected = make_picture(0, 64, 48).repeat(4, 0).repeat(4, 1) * 257.0
        assert np.abs(frames[0].image - expected).mean() < 1.5 * 257

    def test_transparency_is_refused_or_dropped(self, tmp_path: Path) -> None:
        picture = np.full((32, 32, 4), 200, np.uint8)
        clip = tmp_path / "a.mov"
        with av.open(str(clip), "w") as container:
            stream = container.add_stream("qtrle", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "argb"
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="argb")
            container.mux([*stream.encode(frame), *stream.encode(None)])
        assert probe(clip).has_alpha
        with pytest.raises(VideoError, match=r"transparency.*--drop-alpha"):
            list(read_frames(clip))
        (frame,) = read_frames(clip, drop_alpha=True)
        assert (frame.image == 200).all()


class TestGeometry:
    @pytest.mark.parametrize(("rotation", "turns"), [(90, -1), (180, -2), (270, -3)])
    def test_rotation_is_applied_once(self, tmp_path: Path, rotation: int, turns: int) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=2, rotation=rotation, sample_aspect_ratio=Fraction(4, 3))
        info = probe(clip)
        is_upright = rotation == 180
        assert info.rotation == rotation
        assert (info.width, info.height) == ((64, 48) if is_upright else (48, 64))
        assert info.sample_aspect_ratio == (Fraction(4, 3) if is_upright else Fraction(3, 4))
        frame = next(read_frames(info))
        expected = np.rot90(make_picture(0, 64, 48), turns)
        assert np.abs(frame.image.astype(int) - expected).mean() < 1.5
        output = upscale(clip, tmp_path / "out.mp4")
        assert output.rotation == 0
        assert output.sample_aspect_ratio == info.sample_aspect_ratio

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_sample_aspect_ratio_is_kept(self, tmp_path: Path, suffix: str) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=2, sample_aspect_ratio=Fraction(16, 11))
        output = upscale(clip, tmp_path / f"out{suffix}")
        assert output.sample_aspect_ratio == Fraction(16, 11)

    def test_odd_sizes(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", frames=3, width=33, height=17, codec="ffv1", pixel_format="yuv444p")
        output = upscale(clip, tmp_path / "out.mp4")
        frames = list(read_frames(output))
        assert (output.width, output.height, len(frames)) == (132, 68, 3)
        expected = make_picture(2, 33, 17).repeat(4, 0).repeat(4, 1)
        assert np.abs(frames[2].image.astype(int) - expected).mean() < 1.5

    def test_interlaced_is_deinterlaced(self, tmp_path: Path) -> None:
        """A bar moving 8 pixels a frame, woven by field, top first, and flagged: no comb may be left at its edges."""
        clip = tmp_path / "a.mkv"
        with av.open(str(clip), "w") as container:
            options = {"flags": "+ildct+ilme", "crf": "4", "x264-params": "tff=1"}
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
            for index in range(6):
                image = np.full((64, 128, 3), 60, np.uint8)
                image[0::2, 16 + 8 * index : 40 + 8 * index] = 180
                image[1::2, 20 + 8 * index : 44 + 8 * index] = 180
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        info = probe(clip)
        assert info.is_interlaced

        def comb(frame: Frame) -> float:
            return float(np.abs(np.diff(frame.image[8:-8].astype(int), axis=0)).mean())

        woven = list(read_frames(info, deinterlace="off"))
        single = list(read_frames(info))
        double = list(read_frames(info, deinterlace="field"))
        assert comb(woven[2]) > 3 * comb(single[2])
        assert [frame.time for frame in single] == [frame.time for frame in woven]
        assert len(double) == 12
        assert double[1].time - double[0].time == Fraction(1, 50)
        later = list(read_frames(info, start=Fraction(3, 25)))
        assert (later[0].image == single[3].image).all()


class TestMux:
    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
    @pytest.mark.parametrize("source", [".mkv", ".mp4"])
    def test_everything_is_carried(self, tmp_path: Path, source: str, suffix: str) -> None:
        clip = make_clip(
            tmp_path / f"in{source}",
            frames=25,
            audio_tracks=2,
            subtitles=True,
            chapters=True,
            title="Title = a; b # c",
        )
        info = probe(clip)
        output = upscale(clip, tmp_path / f"out{suffix}", count=3)
        kinds = [stream.kind for stream in output.streams if stream.kind != "data"]
        assert kinds == ["video", "audio", "audio", "subtitle"]
        languages = [stream.language for stream in output.streams[1:4]]
        # QuickTime's own language table knows German by its other code.
        assert languages == ["eng", "ger" if suffix == ".mov" else "deu", "fra"]
        assert output.metadata["title"] == "Title = a; b # c"
        assert [(c.start, c.end, c.metadata["title"]) for c in output.chapters] == list(CHAPTERS)
        assert [stream.title for stream in output.streams[1:3]] == ["track 0", "track 1"]
        if suffix != ".mov":
            assert output.streams[2].dispositions == ("comment",)
            assert "forced" in output.streams[3].dispositions
        assert output.streams[3].codec == ("subrip" if suffix == ".mkv" else "mov_text")
        for index in (1, 2):
            before, after = packet_times(clip, index), packet_times(output.path, index)
            assert len(after) == len(before)
            assert all(abs(a[0] - b[0]) < Fraction(2, 1000) for a, b in zip(after, before, strict=True))
        texts = [time for time, length in packet_times(output.path, 3) if length]
        assert {Fraction(1, 10), Fraction(6, 10)} <= set(texts)
        assert abs(output.rate - info.rate) < Fraction(1, 100)
        times, expected = packet_times(output.path, 0), packet_times(clip, info.video_index)
        assert sorted(time for time, _ in times) == sorted(time for time, _ in expected)

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_late_audio_stays_late(self, tmp_path: Path, suffix: str) -> None:
        clip = make_clip(tmp_path / "in.mp4", frames=25, audio_tracks=1, audio_delay=Fraction(2, 5))
        output = upscale(clip, tmp_path / f"out{suffix}")
        before = [packet_times(clip, index)[0][0] for index in (0, 1)]
        after = [packet_times(output.path, index)[0][0] for index in (0, 1)]
        assert before[1] - before[0] > Fraction(3, 10)
        assert abs((after[1] - after[0]) - (before[1] - before[0])) < Fraction(2, 1000)

    @pytest.mark.parametrize("codec", ["h264", "hevc"])
    def test_late_variable_rate_video_keeps_every_time(self, tmp_path: Path, codec: str) -> None:
        clip = make_clip(tmp_path / "in.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ, audio_tracks=1)
        output = upscale(clip, tmp_path / "out.mp4", codec=codec, count=3)
        found = sorted(time for time, _ in packet_times(output.path, 0))
        assert abs(list(read_frames(output))[-1].duration - Fraction(1, 25)) < Fraction(1, 1000)
        assert found == [tick * NINETY_KHZ for tick in VARIABLE_TIMES]
        assert packet_times(output.path, 1)[0] == packet_times(clip, 1)[0]
        decode_times = []
        with av.open(str(output.path)) as container:
            decode_times = [packet.dts for packet in container.demux(video=0) if packet.size]
        assert decode_times == sorted(set(decode_times))

    def test_transport_stream_moves_to_zero(self, tmp_path: Path) -> None:
        clip = tmp_path / "in.ts"
        run_ffmpeg("-i", make_clip(tmp_path / "a.mp4", frames=20, audio_tracks=1), "-c", "copy", clip)
        info = probe(clip)
        assert info.start_time > 1
        output = upscale(clip, tmp_path / "out.mp4")
        frames = list(read_frames(output))
        assert output.start_time < Fraction(1, 10)
        assert len(frames) == 20
        gap = info.start_time - packet_times(clip, 1)[0][0]
        assert abs(output.start_time - packet_times(output.path, 1)[0][0] - gap) < Fraction(2, 1000)

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_trim_cuts_all_streams(self, tmp_path: Path, suffix: str) -> None:
        clip = make_clip(tmp_path / "in.mp4", frames=25, audio_tracks=1, subtitles=True, chapters=True)
        output = upscale(clip, tmp_path / f"out{suffix}", start=Fraction(2, 5), end=Fraction(4, 5))
        frames = list(read_frames(output))
        assert len(frames) == 10
        assert abs(frames[0].time) < Fraction(1, 1000)
        assert np.abs(frames[0].image[::4, ::4].astype(int) - make_picture(10, 64, 48)).mean() < 2.5
        audio = packet_times(output.path, 1)
        assert -Fraction(1, 1000) < audio[0][0] < Fraction(25, 1000)
        assert abs(audio[-1][0] + audio[-1][1] - Fraction(4, 10)) < Fraction(45, 1000)
        assert [(c.start, c.end) for c in output.chapters] == [(0, Fraction(1, 10)), (Fraction(1, 10), Fraction(2, 5))]
        texts = [time for time, length in packet_times(output.path, 2) if time > 0]
        assert texts[0] == Fraction(1, 5)

    def test_attachments_and_covers(self, tmp_path: Path) -> None:
        plain = make_clip(tmp_path / "a.mkv", frames=3, audio_tracks=1)
        cover, font = tmp_path / "cover.png", tmp_path / "letters.ttf"
        write_image(cover, make_picture(3, 32, 32))
        font.write_bytes(b"not really a font" * 9)
        clip = tmp_path / "in.mkv"
        attach = ["-attach", cover, "-metadata:s:2", "mimetype=image/png"]
        attach += ["-attach", font, "-metadata:s:3", "mimetype=font/ttf"]
        run_ffmpeg("-i", plain, "-map", "0", "-c", "copy", *attach, clip)
        output = upscale(clip, tmp_path / "out.mkv")
        with av.open(str(output.path)) as container:
            (attachment,) = [stream for stream in container.streams if stream.type == "attachment"]
            assert (attachment.name, attachment.data) == ("letters.ttf", font.read_bytes())
        (shown,) = [stream for stream in output.streams if stream.is_cover]
        with av.open(str(output.path)) as container:
            (packet,) = [packet for packet in container.demux(container.streams[shown.index]) if packet.size]
            assert bytes(packet) == cover.read_bytes()
        as_mp4 = upscale(clip, tmp_path / "out.mp4")
        assert [stream.codec for stream in as_mp4.streams if stream.is_cover] == ["png"]
        plan = {entry.stream.kind: str(entry) for entry in check_mux(probe(clip), "out.mp4")}
        assert plan["attachment"].startswith("dropped (a font")

    def test_pcm_becomes_aac_in_mp4_and_stays_in_matroska(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "in.mkv", frames=10, audio_tracks=1, audio_codec="pcm_s16le")
        assert [str(entry) for entry in check_mux(probe(clip), "out.mp4")] == ["upscale", "convert to aac"]
        assert upscale(clip, tmp_path / "out.mp4").streams[1].codec == "aac"
        assert upscale(clip, tmp_path / "out.mkv").streams[1].codec == "pcm_s16le"

    def test_ass_becomes_plain_text_in_mp4(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "in.mkv", frames=25, subtitles=True, subtitle_codec="ass")
        assert upscale(clip, tmp_path / "out.mkv").streams[1].codec == "ass"
        assert upscale(clip, tmp_path / "out.mp4").streams[1].codec == "mov_text"

    def test_streams_can_be_left_out(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "in.mkv", frames=10, audio_tracks=1, subtitles=True, title="kept")
        output = upscale(clip, tmp_path / "out.mp4", with_audio=False, with_subtitles=False)
        assert [stream.kind for stream in output.streams] == ["video"]
        assert output.metadata["title"] == "kept"

    @pytest.mark.parametrize(
        ("audio_codec", "target", "message"),
        [
            ("aac", "out.avi", r"cannot write files ending in '.avi'; use .mp4, .m4v, .mov, .mkv, .webm"),
            ("aac", "out.webm", "webm cannot hold h264 video.*--codec av1"),
        ],
    )
    def test_refuses_before_any_frame(self, tmp_path: Path, audio_codec: str, target: str, message: str) -> None:
        clip = tmp_path / "in.mkv"
        sound = make_sound(tmp_path / "a.wav", 440, 0.2)
        plain = make_clip(tmp_path / "a.mkv", frames=5)
        run_ffmpeg("-i", plain, "-i", sound, "-c:v", "copy", "-c:a", audio_codec, clip)
        info = probe(clip)
        with pytest.raises(VideoError, match=message):
            check_mux(info, tmp_path / target)

    def test_what_cannot_be_held_nor_converted_is_refused_or_dropped(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "in.mkv", frames=1))
        info = replace(info, streams=(*info.streams, StreamInfo(1, "subtitle", "hdmv_pgs_subtitle")))
        refused = (
            r"mp4 cannot hold the subtitle stream 1 \(hdmv_pgs_subtitle\) of in.mkv; use.*\.mkv, or --no-subtitles"
        )
        with pytest.raises(VideoError, match=refused):
            check_mux(info, "out.mp4")
        plan = check_mux(info, "out.mp4", drop_unsupported=True)
        assert str(plan[1]) == "dropped (mp4 cannot hold hdmv_pgs_subtitle)"

    def test_one_frame(self, tmp_path: Path) -> None:
        output = upscale(make_clip(tmp_path / "in.mp4", frames=1, audio_tracks=1), tmp_path / "out.mp4")
        assert len(list(read_frames(output))) == 1

    @pytest.mark.parametrize("output", ["av1.webm", "av1.mp4", "ffv1.mkv", "prores.mov", "hevc.mov"])
    def test_other_codecs(self, tmp_path: Path, output: str) -> None:
        codec, suffix = Path(output).stem, Path(output).suffix
        clip = make_clip(tmp_path / "in.mp4", frames=5)
        found = upscale(clip, tmp_path / f"out{suffix}", codec=codec)
        assert found.codec == codec
        assert (found.color.matrix, found.color.range) == ("smpte170m", "tv")

    def test_failure_of_ffmpeg_is_told_and_cleaned_up(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "in.mp4", frames=3, audio_tracks=1)
        info = probe(clip)
        parts = write_parts(info, list(read_frames(info)), tmp_path, count=1)
        clip.write_bytes(b"gone" * 100)
        with pytest.raises(VideoError, match=r"out.mp4: the final mux failed, ffmpeg ended with \d+: .*in.mp4"):
            join_and_mux(parts, info, tmp_path / "out.mp4")
        assert not (tmp_path / "out.mp4").exists()

    @pytest.mark.parametrize("name", ["a:b.mp4", "-y.mp4", "50% 'it' \"is\"; 100%d.mkv"])
    def test_any_file_name(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        make_clip(tmp_path / "in.mp4", frames=3, audio_tracks=1).rename(tmp_path / name)
        (tmp_path / "out").mkdir()
        monkeypatch.chdir(tmp_path)
        output = upscale(Path(name), Path("out") / name)
        assert [stream.kind for stream in output.streams] == ["video", "audio"]

    def test_trial_leaves_nothing(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "in.mkv", frames=5, audio_tracks=1, subtitles=True))
        before = set(tmp_path.iterdir())
        for suffix in (".mp4", ".mkv", ".mov"):
            try_mux(info, tmp_path / f"out{suffix}", width=256, height=192)
        assert set(tmp_path.iterdir()) == before
        with pytest.raises(VideoError, match="webm cannot hold h264"):
            try_mux(info, tmp_path / "out.webm", width=256, height=192)

    def test_parts_out_of_order_are_refused(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "in.mp4", frames=6))
        parts = write_parts(info, list(read_frames(info)), tmp_path)
        with pytest.raises(VideoError, match="out of order"):
            join_and_mux(parts[::-1], info, tmp_path / "out.mp4")


class TestVerify:
    def test_finds_each_mismatch(self, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "in.mp4", frames=8, audio_tracks=1)
        info = probe(clip)
        target = tmp_path / "out.mp4"
        upscale(clip, target)
        good = {"frames": 8, "width": 256, "height": 192, "source": info}
        verify(target, **good)
        for changes, message in (
            ({"frames": 9}, "number of frames is 8, expected 9"),
            ({"width": 128}, "picture size is 256x192, expected 128x192"),
            ({"source": probe(make_clip(tmp_path / "b.mp4", frames=8, rate=24))}, "time of frame 2"),
            ({"plan": check_mux(info, target)[:1]}, "number of audio streams is 1, expected 0"),
        ):
            with pytest.raises(VideoError, match=message):
                verify(target, **{**good, **changes})

    def test_packets_of_single_fields_are_no_frames(self, tmp_path: Path) -> None:
        """Broadcasts of H.264 may have a packet a field: twice the packets at half the distance, for as many frames."""
        target = make_clip(tmp_path / "out.mp4", frames=8)
        fields = probe(make_clip(tmp_path / "fields.mkv", frames=16, rate=50))
        good = {"frames": 8, "width": 64, "height": 48}
        verify(target, source=replace(fields, is_interlaced=True), **good)
        with pytest.raises(VideoError, match="time of frame 2"):
            verify(target, source=fields, **good)
        uneven = make_clip(tmp_path / "uneven.mp4", times=[0, 1, 2, 3, 4, 6, 7, 8], time_base=Fraction(1, 25))
        with pytest.raises(VideoError, match="time of frame"):
            verify(uneven, source=replace(fields, is_interlaced=True), **good)


class TestWriter:
    def test_exception_leaves_nothing(self, tmp_path: Path) -> None:
        part = tmp_path / "part.mp4"

        def fail() -> None:
            settings = {"width": 64, "height": 48, "rate": Fraction(25), "time_base": Fraction(1, 25)}
            with FrameWriter(part, **settings, color=Color()) as writer:
                writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
                raise RuntimeError("network")

        with pytest.raises(RuntimeError, match="network"):
            fail()
        assert list(tmp_path.iterdir()) == []

    def test_name_appears_on_close_only(self, tmp_path: Path) -> None:
        part = tmp_path / "part.mp4"
        writer = FrameWriter(part, width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=Color())
        writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
        assert not part.exists()
        writer.close()
        assert [entry.name for entry in tmp_path.iterdir()] == ["part.mp4"]

    def test_refuses_what_does_not_fit(self, tmp_path: Path) -> None:
        settings = {"width": 64, "height": 48, "rate": Fraction(25), "time_base": Fraction(1, 25), "color": Color()}
        image = make_picture(0, 64, 48)
        with pytest.raises(VideoError, match="no frames were written"), FrameWriter(tmp_path / "a.mp4", **settings):
            pass
        writer = FrameWriter(tmp_path / "a.mp4", **settings)
        writer.write(Frame(image, Fraction(1)))
        with pytest.raises(VideoError, match="times must grow"):
            writer.write(Frame(image, Fraction(1)))
        writer.discard()
        with pytest.raises(VideoError, match="expected 64x48"), FrameWriter(tmp_path / "a.mp4", **settings) as writer:
            writer.write(Frame(image[:-1], Fraction(0)))
        with pytest.raises(VideoError, match="codec 'vhs' is unknown"):
            FrameWriter(tmp_path / "a.mp4", **settings, codec="vhs")
        with (
            pytest.raises(VideoError, match=r"libx264 has no preset 'warp'; expected ultrafast, .*veryslow"),
            FrameWriter(tmp_path / "a.mp4", **settings, preset="warp") as writer,
        ):
            writer.write(Frame(image, Fraction(0)))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("codec", [name for name in CODECS if "nvenc" not in name])
    def test_every_encoder_is_tried_with_its_options(self, tmp_path: Path, codec: str) -> None:
        info = probe(make_clip(tmp_path / "in.mp4", frames=2))
        settings = {"width": 256, "height": 192, "preset": "ultrafast", "encoder_options": {"g": "7"}}
        target = tmp_path / "out.mkv"
        try_mux(info, target, codec=codec, **settings)
        with pytest.raises(VideoError, match=r"has no option 'nonsense'; check --encoder-arg"):
            try_mux(info, target, codec=codec, **(settings | {"encoder_options": {"nonsense": "1"}}))

    @pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
    def test_a_missing_encoder_is_found_out(self, tmp_path: Path, codec: str) -> None:
        info = probe(make_clip(tmp_path / "in.mp4", frames=2))
        with pytest.raises(VideoError, match=rf"^{codec} cannot be used here .*NVIDIA.*--codec$"):
            try_mux(info, tmp_path / "out.mkv", width=256, height=192, codec=codec)

    def test_x264_cuts_no_picture_into_slices(self, tmp_path: Path) -> None:
        """It works on several pictures at once instead, as under ffmpeg: faster, and smaller at the same quality."""
        settings = {"width": 256, "height": 192, "rate": Fraction(25), "time_base": Fraction(1, 25)}
        with FrameWriter(tmp_path / "a.mp4", **settings, color=Color(), preset="ultrafast") as writer:
            writer.write(Frame(np.zeros((192, 256, 3), np.uint8), Fraction(0)))
        stated = (tmp_path / "a.mp4").read_bytes()  # x264 writes its options into the stream
        assert b"x264 - core" in stated
        assert b"sliced_threads=1" not in stated

    @pytest.mark.parametrize(
        ("given", "stated"),
        [({}, b"rc_lookahead=10 "), ({"rc-lookahead": "13"}, b"rc_lookahead=13 "), (None, b"rc_lookahead=40 ")],
    )
    def test_x264_holds_fewer_pictures_where_they_are_large(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str] | None, stated: bytes
    ) -> None:
        """As many pixels as of the largest that are not; the user's own choice counts, and smaller ones are left."""
        settings = {"width": 256, "height": 256, "rate": Fraction(25), "time_base": Fraction(1, 25)}
        monkeypatch.setattr(encoder, "LARGE_PICTURE", 256 * 256 // (1 if given is None else 4))
        monkeypatch.setattr(encoder, "usable_cores", lambda: 16)
        with FrameWriter(tmp_path / "a.mp4", **settings, color=Color(), encoder_options=given or {}) as writer:
            writer.write(Frame(np.zeros((256, 256, 3), np.uint8), Fraction(0)))
        options = (tmp_path / "a.mp4").read_bytes()
        assert stated in options
        assert (b" threads=4 " in options) == (b"sliced_threads=1" in options) == (given is not None)

    def test_so_does_x265_and_always_begins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        info = probe(make_clip(tmp_path / "in.mp4", frames=2))
        settings = encoder.EncoderSettings(
            codec="hevc", width=256, height=192, rate=Fraction(25), time_base=Fraction(1, 25), color=Color()
        )
        assert encoder.shorter_lookahead(CODECS["hevc"], settings) is None
        monkeypatch.setattr(encoder, "LARGE_PICTURE", 1)
        for preset in encoder.X26X_PRESETS:
            assert encoder.shorter_lookahead(CODECS["hevc"], replace(settings, preset=preset)) in (None, 9)
            try_mux(info, tmp_path / "out.mkv", codec="hevc", width=256, height=192, preset=preset)

    def test_parts_by_x265_tell_nothing_of_who_made_them(self, tmp_path: Path) -> None:
        """What an encoder looked ahead, and in how many threads: parts of other machines join."""
        settings = {"width": 256, "height": 192, "rate": Fraction(25), "time_base": Fraction(1, 25), "codec": "hevc"}
        parts = [tmp_path / f"{number}.mp4" for number in range(2)]
        for path, parameters in zip(
            parts, ("rc-lookahead=9:frame-threads=1", "rc-lookahead=20:frame-threads=3"), strict=True
        ):
            options = {"x265-params": parameters}
            with FrameWriter(path, **settings, color=Color(), preset="ultrafast", encoder_options=options) as writer:
                writer.write(Frame(np.zeros((192, 256, 3), np.uint8), Fraction(0)))
        assert read_layout(parts, Fraction(25)).codec == "hevc"

    def test_pixel_formats(self, tmp_path: Path) -> None:
        info = probe(make_clip(tmp_path / "in.mp4", frames=2))
        settings = {"width": 256, "height": 192, "preset": "ultrafast"}
        try_mux(info, tmp_path / "out.mkv", pixel_format="yuv444p", **settings)
        with pytest.raises(VideoError, match=r"^libx264: .*'foo'; choose another --codec, --pix-fmt"):
            try_mux(info, tmp_path / "out.mkv", pixel_format="foo", **settings)
        with pytest.raises(VideoError, match=r"^libx264 refuses 256x192 pixels .*--pix-fmt"):
            try_mux(info, tmp_path / "out.mkv", pixel_format="rgb24", **settings)

    def test_deep_sources_become_hevc(self) -> None:
        assert choose_codec("auto", 10) == "hevc"
        assert choose_codec("auto", 8) == "h264"


class TestBadFiles:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        return make_clip(tmp_path / "good.mp4", frames=20, audio_tracks=1)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"nope\.mp4: no such file"):
            probe(tmp_path / "nope.mp4")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").touch()
        with pytest.raises(VideoError, match=r"a\.mp4: the file is empty \(0 bytes\)"):
            probe(tmp_path / "a.mp4")

    @pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
    def test_text(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("Dear diary,\n" * 200, encoding="utf-8")
        with pytest.raises(VideoError, match=f"{name}: is (not a video|a text file)"):
            probe(tmp_path / name)

    def test_no_video_stream(self, tmp_path: Path) -> None:
        sound = make_sound(tmp_path / "a.wav", 440, 0.1)
        with pytest.raises(VideoError, match=r"a\.wav: has no video stream \(found: audio\)"):
            probe(sound)

    def test_no_frames(self, tmp_path: Path) -> None:
        clip = tmp_path / "a.mkv"
        with av.open(str(clip), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            container.start_encoding()
        with pytest.raises(VideoError, match=r"a\.mkv: no frames in the video stream"):
            probe(clip)

    def test_truncated_without_index(self, tmp_path: Path, clip: Path) -> None:
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(clip.read_bytes()[:2000])
        with pytest.raises(VideoError, match=r"cut\.mp4: is an MP4 or MOV whose 'mdat' box .*cut short"):
            probe(cut)

    def test_truncated_with_index_gives_what_is_there(self, tmp_path: Path, clip: Path) -> None:
        fast, cut = tmp_path / "fast.mp4", tmp_path / "cut.mp4"
        run_ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", fast)
        data = fast.read_bytes()
        cut.write_bytes(data[: len(data) * 7 // 10])
        reports: list[str] = []
        frames = list(read_frames(cut, on_damage=reports.append))
        assert 3 < len(frames) < 20
        assert reports
        assert all(report.startswith(str(cut)) for report in reports)
        with pytest.raises(VideoError, match=r"cut\.mp4: "):
            list(read_frames(cut, strict=True))

    def test_truncated_matroska_gives_what_is_there(self, tmp_path: Path) -> None:
        clip, cut = make_clip(tmp_path / "a.mkv", frames=20), tmp_path / "cut.mkv"
        data = clip.read_bytes()
        cut.write_bytes(data[: len(data) // 2])
        reports: list[str] = []
        frames = list(read_frames(cut, on_damage=reports.append))
        assert 3 < len(frames) < 20
        assert "cut short" in reports[-1]

    def test_corrupt_packet_is_concealed_and_counted(self, tmp_path: Path, clip: Path) -> None:
        data = bytearray(clip.read_bytes())
        with av.open(str(clip)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            middle = packets[8]
            begin = middle.pos + min(30, middle.size // 3)
            data[begin : middle.pos + middle.size] = bytes(
                255 - byte for byte in data[begin : middle.pos + middle.size]
            )
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(data)
        reports: list[str] = []
        frames = list(read_frames(bad, on_damage=reports.append))
        assert reports
        assert len(frames) >= 18
        with pytest.raises(VideoError, match=r"bad\.mp4: .*--strict"):
            list(read_frames(bad, strict=True))

    def test_damage_that_is_read_twice_is_counted_once(self, tmp_path: Path) -> None:
        """The head of a range is read again from further back when too few frames of it decode."""
        clip = make_clip(tmp_path / "a.mp4", frames=20, codec="mjpeg", pixel_format="yuvj420p")
        data = bytearray(clip.read_bytes())
        with av.open(str(clip)) as container:
            bad = [packet for packet in container.demux(video=0) if packet.size][9]
            data[bad.pos : bad.pos + bad.size] = bytes(bad.size)
        clip.write_bytes(data)
        reports: list[str] = []
        frames = list(read_frames(clip, start=Fraction(9, 25), on_damage=reports.append))
        assert len(frames) == 10
        assert len(reports) == 1


class TestImages:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_png_is_lossless(self, tmp_path: Path, dtype: type[np.generic]) -> None:
        image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (17, 33, 3)).astype(dtype)
        write_image(tmp_path / "a.png", image)
        found = read_image(tmp_path / "a.png")
        assert found.dtype == dtype
        assert (found == image).all()

    def test_jpeg(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.jpg", make_picture(3, 33, 17))
        found = read_image(tmp_path / "a.jpg")
        assert np.abs(found.astype(int) - make_picture(3, 33, 17)).mean() < 2
        (frame,) = read_frames(tmp_path / "a.jpg")
        assert np.abs(frame.image.astype(int) - make_picture(3, 33, 17)).mean() < 2

    def test_writing_refuses_what_the_format_cannot_hold(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"JPEG holds 8 bits"):
            write_image(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.uint16))
        with pytest.raises(VideoError, match=r"use \.png or \.jpg"):
            write_image(tmp_path / "a.gif", np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(VideoError, match="cannot write the image"):
            write_image(tmp_path / "no" / "a.png", np.zeros((4, 4, 3), np.uint8))

    @pytest.mark.parametrize("as_pattern", [False, True])
    def test_a_folder_is_a_video(self, tmp_path: Path, as_pattern: bool) -> None:
        folder = tmp_path / "shot"
        folder.mkdir()
        for index in range(12):
            write_image(folder / f"shot_{index}.png", make_picture(index, 32, 24))
        info = probe(folder / "shot_%d.png" if as_pattern else folder, rate=Fraction(24000, 1001))
        frames = list(read_frames(info))
        assert (info.rate, info.frame_count, info.is_image_sequence) == (Fraction(24000, 1001), 12, True)
        assert [frame.time for frame in frames] == [k * Fraction(1001, 24000) for k in range(12)]
        assert all((frame.image == make_picture(k, 32, 24)).all() for k, frame in enumerate(frames))
        cut = list(read_frames(info, start=frames[10].time))
        assert [frame.time for frame in cut] == [frame.time for frame in frames[10:]]
        output = tmp_path / "out.mp4"
        parts = write_parts(info, frames, tmp_path)
        join_and_mux(parts, info, output)
        verify(output, frames=12, width=128, height=96, source=info, plan=check_mux(info, output))
        assert probe(output).color.matrix == "bt709"
        first = next(read_frames(output)).image[::4, ::4].astype(int)
        assert np.abs(first - make_picture(0, 32, 24)).mean() < 2.5

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("none here", encoding="utf-8")
        with pytest.raises(VideoError, match=r"has no images; expected numbered files ending in \.png"):
            probe(tmp_path)

    def test_a_still_is_one_frame(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", make_picture(0, 32, 24))
        info = probe(tmp_path / "a.png", rate=Fraction(10))
        (frame,) = read_frames(info)
        assert (info.rate, frame.time, frame.duration) == (10, 0, Fraction(1, 10))
        assert (frame.image == make_picture(0, 32, 24)).all()
