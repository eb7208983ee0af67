"""What `--drop` names is not in the output, all else is; and jobs from before it existed go on."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import CHAPTERS, make_clip, make_picture, run_ffmpeg, stop_after
from commands import QUICK, in_process
from jobs import run_job, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import JobError, read_identity
from ristn_cli.job.options import FIRST_RECORDED, UpscaleOptions, recorded_options
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import StreamInfo, VideoError, VideoInfo, check_mux, probe, write_image

ALL = {"video", "videos", "audio", "subtitle", "attachment", "cover"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three frames with a stream of every kind, chapters, and the tags of a camera."""
    clip = make_clip(
        tmp_path / "clip.mkv",
        frames=3,
        width=32,
        height=32,
        audio_tracks=1,
        subtitles=True,
        chapters=True,
        title="kept",
    )
    (tmp_path / "notes.txt").write_text("notes")
    write_image(tmp_path / "cover.png", make_picture(3, 32, 32))
    run_ffmpeg(
        *("-i", clip, "-i", make_clip(tmp_path / "second.mkv", frames=3, width=16, height=16)),
        *("-map", "0", "-map", "1:v", "-c", "copy", "-metadata", "location=+48.1+011.6/"),
        *("-attach", tmp_path / "notes.txt", "-metadata:s:4", "mimetype=text/plain"),
        *("-attach", tmp_path / "cover.png", "-metadata:s:5", "mimetype=image/png"),
        tmp_path / "in.mkv",
    )
    return tmp_path / "in.mkv"


def kinds(info: VideoInfo) -> set[str]:
    """The kinds of streams; `videos` are those beside the upscaled one."""
    found = set()
    for stream in info.streams:
        beside = "cover" if stream.is_cover else "videos"
        found.add(beside if stream.kind == "video" and stream.index != info.video_index else stream.kind)
    return found


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        ("videos", {"videos"}),
        ("covers", {"cover"}),
        ("attachments", {"attachment"}),
        ("chapters", set()),
        ("metadata,data", set()),
        ("audio,subtitles", {"audio", "subtitle"}),
        ("audio,subtitles,attachments,chapters,covers,data,metadata,videos", ALL - {"video"}),
    ],
)
def test_what_is_named_is_left_out_and_nothing_else(
    source: Path, tmp_path: Path, tiny_weights: Path, dropped: str, missing: set[str]
) -> None:
    assert kinds(probe(source)) == ALL
    target = tmp_path / "out.mkv"
    code, _, stderr = in_process("upscale", source, target, "--model", tiny_weights, "--drop", dropped, *QUICK)
    assert code == 0, stderr
    info = probe(target)
    assert kinds(info) == ALL - missing
    chapters = [(chapter.start, chapter.end, chapter.metadata["title"]) for chapter in info.chapters]
    assert chapters == ([] if "chapters" in dropped else list(CHAPTERS))
    tags = {name.lower(): value for name, value in info.metadata.items()}
    assert (tags.get("title"), tags.get("location")) == (
        (None, None) if "metadata" in dropped else ("kept", "+48.1+011.6/")
    )
    if "audio" not in dropped:
        assert [stream.language for stream in info.streams if stream.kind == "audio"] == ["eng"]


def test_a_refusal_names_what_to_drop(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mkv", frames=1))
    streams = {
        "videos": StreamInfo(1, "video", "h264"),
        "covers": StreamInfo(1, "video", "png", is_cover=True),
        "attachments": StreamInfo(1, "attachment", "none", file_name="a.pdf", mime_type="application/pdf"),
        "subtitles": StreamInfo(1, "subtitle", "hdmv_pgs_subtitle"),
    }
    for name, stream in streams.items():
        beside = VideoInfo(**{**vars(info), "streams": (*info.streams, stream)})
        with pytest.raises(VideoError, match=f"or --drop {name}"):
            check_mux(beside, "out.webm", codec="av1")
        assert str(check_mux(beside, "out.webm", codec="av1", drop=(name,))[1]) == "dropped (not wanted)"


def test_data_that_is_not_wanted_is_no_loss(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mkv", frames=1))
    beside = VideoInfo(**{**vars(info), "streams": (*info.streams, StreamInfo(1, "data", "none"))})
    assert [check_mux(beside, "out.mkv", drop=drop)[1].is_loss for drop in ((), ("data",))] == [True, False]


def test_manifests_name_options_as_they_did_before_there_were_more() -> None:
    """A job is recognised by the text of its options: another text makes another job of every unfinished one."""
    options = UpscaleOptions(crf=20.0, start=Fraction(3, 2), size=(64, 48), encoder_options={"g": "2"})
    assert recorded_options(options) == {
        **{"codec": "auto", "crf": "20", "preset": "medium", "pixel_format": "None", "encoder_options": "{'g': '2'}"},
        **{"start": "3/2", "end": "None", "max_frames": "None", "with_audio": "True", "with_subtitles": "True"},
        **{"scale": "4", "size": "(64, 48)", "fit": "None", "square_pixels": "False", "deinterlace": "auto"},
        **{"drop_alpha": "False", "strict": "False", "image_rate": "None", "segment_frames": "None"},
        "video_stream": "None",
    }
    assert recorded_options(UpscaleOptions(fit="1080p"))["fit"] == "1080p"
    later = recorded_options(UpscaleOptions(leave_out=("chapters",)))
    assert later.keys() - set(FIRST_RECORDED) == {"leave_out"}


def test_what_is_left_out_makes_another_job(random_model: RISTN, tmp_path: Path) -> None:
    upscaler = Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6, context=2))
    source, target = make_clip(tmp_path / "in.mkv", frames=12, width=32, height=32), tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        list(run_job(source, target, upscaler, short(preset="ultrafast"), should_stop=stop_after(target)))
    assert "leave_out" not in read_identity(job_folder(target))
    with pytest.raises(JobError, match="another leave_out"):
        list(run_job(source, target, upscaler, short(preset="ultrafast", leave_out=("chapters",))))
    assert next(run_job(source, target, upscaler, short(preset="ultrafast"))).frames > 0
