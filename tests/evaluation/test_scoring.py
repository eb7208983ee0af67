"""Evaluation: the protocol's numbers on clips with known pixels, what is compared, and what is refused."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from PIL import Image, ImageFilter

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation import scoring as evaluate
from ristn_cli.evaluation.dataset import Clip, find_clips, find_counterpart, plan_clips
from ristn_cli.evaluation.methods import Interpolation, Network, Outputs, interpolate_lanczos
from ristn_cli.evaluation.metrics import psnr, psnr_y, rgb_to_y, sharpness, ssim, ssim_rgb, ssim_y, temporal_error
from ristn_cli.evaluation.scoring import FrameScores, Protocol, ScoredFrame, evaluate_clip, mean_scores, read_pairs
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, find_vmaf, read_frames, write_image

CPU = Backend(torch.device("cpu"), "fp32")
BICUBIC = Interpolation("bicubic")


def only_clip(path: Path, *given: Path, max_frames: int | None = None) -> Clip:
    (clip,) = plan_clips(path, given, max_frames=max_frames)
    return clip


def write_frames(folder: Path, images: list[np.ndarray], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        write_image(folder / f"frame_{number:04}{suffix}", image)
    return folder


def noise(frames: int, height: int = 64, width: int = 72, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8))


def test_bicubic_is_pillows(tiny_model: RISTN, tmp_path: Path) -> None:
    """Down and up by Pillow, which rounds between its passes: at 56 dB on these smooth frames that is still seen."""
    path = make_clip(tmp_path / "clip.mkv", frames=3, width=90, height=70, codec="ffv1")
    clip = only_clip(path)
    assert (clip.name, clip.total, clip.frames) == ("clip", 3, 3)
    bicubic = evaluate_clip(clip, BICUBIC)
    network = evaluate_clip(clip, Network("tiny", Upscaler(tiny_model, CPU)))  # which is bicubic
    assert len(bicubic.frames) == len(network.frames) == 3
    for frame, found, ours in zip(read_frames(path), bicubic.frames, network.frames, strict=True):
        hr = frame.image[:68, :88]
        small = Image.fromarray(hr).resize((22, 17), Image.Resampling.BICUBIC)
        expected = psnr_y(np.asarray(small.resize((88, 68), Image.Resampling.BICUBIC)), hr, crop_border=8)
        assert found.psnr_y == pytest.approx(expected, abs=0.3)
        assert ours.psnr_y == pytest.approx(found.psnr_y, abs=0.02)
        assert math.isnan(ours.temporal_gain)
    assert bicubic.seconds > 0


def test_lanczos_is_pillows() -> None:
    """Which rounds and clamps to 8 bits between its passes: so the values stay away from both ends."""
    image = noise(1, 12, 17)[0] // 4 + 96
    enlarged = Image.fromarray(image).resize((68, 48), Image.Resampling.LANCZOS)
    assert np.abs(interpolate_lanczos(image).astype(int) - np.asarray(enlarged)).max() <= 1


def test_every_score_is_that_of_the_metrics(tmp_path: Path) -> None:
    truth, made = noise(3), noise(3, seed=1)
    path, folder = write_frames(tmp_path / "hr" / "a", truth), write_frames(tmp_path / "sr" / "a", made)
    scores = evaluate_clip(only_clip(path), Outputs("sr", folder.parent), Protocol(with_rgb=True))
    assert math.isnan(scores.seconds)
    errors = [rgb_to_y(sr) - rgb_to_y(hr) for sr, hr in zip(made, truth, strict=True)]
    for index, found in enumerate(scores.frames):
        sr, hr = made[index], truth[index]
        assert found.psnr_y == psnr_y(sr, hr, crop_border=8)
        assert found.ssim_y == ssim_y(sr, hr, crop_border=8)
        assert found.psnr_rgb == psnr(sr, hr, crop_border=8)
        assert found.ssim_rgb == ssim_rgb(sr, hr, crop_border=8)
        assert found.sharpness == sharpness(rgb_to_y(sr), rgb_to_y(hr), crop_border=8)
        if index:
            assert found.temporal_error == temporal_error(errors[index], errors[index - 1], crop_border=8)
    assert math.isnan(scores.frames[0].temporal_error)
    assert scores.means.temporal_error == np.mean([f.temporal_error for f in scores.frames[1:]])
    without_rgb = evaluate_clip(only_clip(path), Outputs("sr", folder.parent)).means
    assert math.isnan(without_rgb.psnr_rgb)


def test_a_perfect_copy_has_the_highest_scores(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "a", noise(2))
    means = evaluate_clip(only_clip(folder), Outputs("copy", folder)).means
    assert (means.psnr_y, means.temporal_error) == (100, 0)
    assert means.ssim_y == pytest.approx(1, abs=1e-12)


def test_outputs_may_be_fewer_and_larger(tmp_path: Path) -> None:
    """Frame k is frame k; HR is cut to a multiple of 4, outputs of the uncut size are cut alike; JPEG is read."""
    truth = noise(4, 66, 75)
    path = write_frames(tmp_path / "hr" / "a", truth)
    folder = write_frames(tmp_path / "sr" / "a", [255 - image for image in truth[:3]], ".jpg").parent
    clip = only_clip(path, folder)
    assert (clip.total, clip.frames) == (4, 3)
    seen: list[ScoredFrame] = []
    scores = evaluate_clip(clip, Outputs("others", folder), on_frame=seen.append)
    assert [frame.index for frame in seen] == [0, 1, 2]
    for frame, hr in zip(seen, truth, strict=False):
        assert frame.hr.shape == frame.sr.shape == (64, 72, 3)
        assert np.array_equal(frame.hr, hr[:64, :72])
        assert np.abs(255 - frame.sr.astype(int) - frame.hr).mean() < 12  # JPEG
    assert len(scores.frames) == 3
    assert len(evaluate_clip(clip, BICUBIC).frames) == 3  # every method on the same frames


def test_stills_are_clips_of_their_own(tmp_path: Path) -> None:
    (large,), (small,) = noise(1, 64, 72), noise(1, 48, 80, seed=1)
    for kind in ("hr", "sr"):
        (tmp_path / kind).mkdir()
        write_image(tmp_path / kind / "bird.png", large)
        write_image(tmp_path / kind / "baby.png", small)
    write_image(tmp_path / "sr" / "baby.png", 255 - small)
    clips = plan_clips(tmp_path / "hr", [tmp_path / "sr"], stills=True)
    assert {clip.name: (clip.total, clip.frames, clip.is_still) for clip in clips} == {
        "baby": (1, 1, True),
        "bird": (1, 1, True),
    }
    psnrs = {clip.name: evaluate_clip(clip, Outputs("sr", tmp_path / "sr")).means.psnr_y for clip in clips}
    assert psnrs == {"bird": 100, "baby": psnr_y(255 - small, small, crop_border=8)}
    with pytest.raises(VideoError, match=r"bird\.png: the format changes from 80x48 .* to 72x64 .*; .*--stills"):
        evaluate_clip(only_clip(tmp_path / "hr"), BICUBIC)
    with pytest.raises(VideoError, match="is not a folder of images"):
        plan_clips(make_clip(tmp_path / "clip.mkv", frames=1), stills=True)


def test_given_lr_frames_are_read(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "hr" / "a", noise(3))
    small = noise(2, 16, 18, seed=2)
    lr = write_frames(tmp_path / "lr" / "a", small).parent
    clip = only_clip(path, lr)
    assert clip.frames == 2
    seen: list[ScoredFrame] = []
    evaluate_clip(clip, BICUBIC, Protocol(lr=lr), on_frame=seen.append)
    assert [np.array_equal(frame.lr, image) for frame, image in zip(seen, small, strict=True)] == [True, True]
    wrong = write_frames(tmp_path / "wrong" / "a", noise(3, 20, 18)).parent
    with pytest.raises(VideoError, match=r"are 18x20, expected 18x16"):
        evaluate_clip(clip, BICUBIC, Protocol(lr=wrong))


def test_inputs_that_cannot_be_scored_are_refused(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "hr" / "a", noise(2))
    wrong = write_frames(tmp_path / "sr" / "a", noise(2, 60, 72)).parent
    with pytest.raises(VideoError, match=r"of a are 72x60, expected 72x64"):
        evaluate_clip(only_clip(path), Outputs("sr", wrong))
    write_frames(tmp_path / "hr" / "b", noise(1))
    with pytest.raises(VideoError, match="contains no clip 'b'"):
        plan_clips(path.parent, [wrong])
    with pytest.raises(VideoError, match=r"expected at least 32x32"):
        plan_clips(write_frames(tmp_path / "small", noise(1, 24, 40)))
    deep = make_clip(tmp_path / "deep.mkv", frames=2, pixel_format="yuv420p10le", codec="libx265")
    with pytest.raises(VideoError, match="more than 8 bits"):
        plan_clips(deep)


def test_degradations_differ(tmp_path: Path) -> None:
    clip = only_clip(write_frames(tmp_path / "a", noise(1)))
    bi, bd = (evaluate_clip(clip, BICUBIC, Protocol(degradation=kind)).means.psnr_y for kind in ("BI", "BD"))
    assert abs(bi - bd) > 0.05


def moving(frames: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """A coloured texture of some HR pixels' size that moves by one LR pixel a frame."""
    small = np.random.default_rng(5).integers(40, 216, (height // 8, width // 8, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return [np.roll(image, 4 * number, axis=1) for number in range(frames)]


@pytest.mark.parametrize(("codec", "strengths"), [("crf", (18, 28, 38)), ("mpeg2", (2, 8, 31)), ("mpeg4", (2, 8, 31))])
def test_every_method_reads_the_same_compressed_frames(
    codec: str, strengths: tuple[int, ...], tiny_model: RISTN, tmp_path: Path
) -> None:
    """The tiny network is exactly bicubic: so are its scores, and it sees no change between a frame and itself."""
    clip = only_clip(write_frames(tmp_path / "a", moving(6)))
    network = Network("tiny", Upscaler(tiny_model, CPU, Tiling(window=6)))
    means = []
    for protocol in (
        Protocol(with_temporal_gain=True),
        *(Protocol(**{codec: strength}, with_temporal_gain=True) for strength in strengths),  # type: ignore[arg-type]
    ):
        seen: dict[str, list[ScoredFrame]] = {"bicubic": [], "tiny": []}
        for method in (BICUBIC, network):
            scores = evaluate_clip(clip, method, protocol, on_frame=seen[method.name].append)
        for ours, theirs in zip(seen["tiny"], seen["bicubic"], strict=True):
            assert np.array_equal(ours.lr, theirs.lr)
            assert np.array_equal(ours.hr, theirs.hr)
            assert ours.scores.psnr_y == pytest.approx(theirs.scores.psnr_y, abs=0.02)
        assert len(scores.frames) == 6
        assert scores.means.temporal_gain == pytest.approx(0, abs=1e-6)
        means.append(scores.means.psnr_y)
    assert means == sorted(means, reverse=True)
    assert means[0] - means[1] > 0.1
    assert means[2] - means[3] > 1


def test_given_lr_is_not_compressed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crf and lr exclude each other"):
        Protocol(crf=28, lr=tmp_path)
    with pytest.raises(ValueError, match="mpeg2 and mpeg4 exclude each other"):
        Protocol(mpeg2=4, mpeg4=4)


def test_temporal_gain_tells_a_network_that_looks_aside(random_model: RISTN, tmp_path: Path) -> None:
    clip = only_clip(make_clip(tmp_path / "clip.mkv", frames=5, width=96, height=96))
    protocol = Protocol(with_temporal_gain=True)

    def gains() -> list[float]:
        scores = evaluate_clip(clip, Network("random", Upscaler(random_model, CPU)), protocol)
        return [frame.temporal_gain for frame in scores.frames]

    assert any(gain != 0 for gain in gains())
    with torch.no_grad():
        matrix = random_model.get_parameter("fusion.matrix")
        matrix[: len(matrix) // 2] = 0
    assert gains() == pytest.approx([0] * 5, abs=1e-6)


def test_ends_can_be_left_out(random_model: RISTN, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", frames=9, width=64, height=64)
    method = Network("random", Upscaler(random_model, CPU, Tiling(window=6)))
    every = evaluate_clip(only_clip(path), method).frames
    inner = evaluate_clip(only_clip(path), method, Protocol(skip=2))
    assert inner.first == 2
    assert inner.frames == every[2:-2]  # the temporal error of the first one too: its predecessor is known
    few = evaluate_clip(only_clip(path, max_frames=4), BICUBIC, Protocol(max_frames=4)).frames
    assert few == evaluate_clip(only_clip(path), BICUBIC).frames[:4]


def test_scoring_keeps_one_window_in_memory(
    random_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = only_clip(write_frames(tmp_path / "a", noise(14)))
    read = 0

    def counted(*arguments: object) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal read
        read = 0
        for pair in read_pairs(*arguments):  # type: ignore[arg-type]
            read += 1
            yield pair

    monkeypatch.setattr(evaluate, "read_pairs", counted)
    ahead: list[int] = []
    evaluate_clip(clip, BICUBIC, on_frame=lambda frame: ahead.append(read - frame.index))
    assert ahead == [1] * 14
    ahead.clear()
    network = Network("random", Upscaler(random_model, CPU, Tiling(window=6, detect_cuts=False)))
    evaluate_clip(clip, network, on_frame=lambda frame: ahead.append(read - frame.index))
    assert len(ahead) == 14
    assert max(ahead) <= 7  # a window, and the frame that shows that it is not the last


def test_vmaf_of_a_copy_and_of_a_blurred_copy(tmp_path: Path) -> None:
    try:
        find_vmaf()
    except VideoError as error:
        pytest.skip(str(error))
    images = noise(3, 96, 128)
    path = write_frames(tmp_path / "a", images)
    copy = evaluate_clip(only_clip(path), Outputs("copy", path), Protocol(with_vmaf=True))
    blurred = evaluate_clip(only_clip(path), BICUBIC, Protocol(with_vmaf=True))
    assert copy.vmaf > 90 > 50 > blurred.vmaf
    assert copy.vmaf_neg > 90 > 50 > blurred.vmaf_neg
    plain = evaluate_clip(only_clip(path), BICUBIC)
    assert math.isnan(plain.vmaf)
    assert math.isnan(plain.vmaf_neg)


def test_vmaf_neg_does_not_reward_sharpening(tmp_path: Path) -> None:
    try:
        find_vmaf()
    except VideoError as error:
        pytest.skip(str(error))
    rough = np.random.default_rng(0).normal(128, 60, (3, 24, 32, 1)).clip(0, 255).repeat(3, axis=-1).astype(np.uint8)
    images = [np.asarray(Image.fromarray(each).resize((128, 96), Image.Resampling.BICUBIC)) for each in rough]
    sharpened = [np.asarray(Image.fromarray(each).filter(ImageFilter.UnsharpMask(3, 80, 0))) for each in images]
    path, folder = write_frames(tmp_path / "hr" / "a", images), write_frames(tmp_path / "sr" / "a", sharpened)
    scores = evaluate_clip(only_clip(path), Outputs("sr", folder.parent), Protocol(with_vmaf=True))
    assert scores.vmaf_neg < scores.vmaf
    assert scores.means.sharpness > 1.2


def test_means() -> None:
    means = mean_scores([FrameScores(psnr_y=20, ssim_y=1), FrameScores(psnr_y=30, ssim_y=0, temporal_error=2)])
    assert (means.psnr_y, means.ssim_y, means.temporal_error) == (25, 0.5, 2)
    assert math.isnan(mean_scores([]).psnr_y)


def test_clips_are_found(tmp_path: Path) -> None:
    for name in ("b.mkv", "a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "frames").mkdir()
    assert [path.name for path in find_clips(tmp_path)] == ["a.mp4", "b.mkv", "frames"]
    assert find_clips(tmp_path / "a.mp4") == [tmp_path / "a.mp4"]
    (tmp_path / ".hidden").mkdir()
    assert [path.name for path in find_clips(tmp_path)] == ["a.mp4", "b.mkv", "frames"]
    images = tmp_path / "images"
    images.mkdir()
    (images / "0001.png").touch()
    assert find_clips(images) == [images]
    assert find_counterpart(images, "anything") == images
    assert find_counterpart(tmp_path, "b") == find_counterpart(tmp_path, "b.mkv") == tmp_path / "b.mkv"
    with pytest.raises(VideoError, match="no clips found"):
        find_clips(tmp_path / "frames")
    with pytest.raises(VideoError, match="no such file"):
        find_clips(tmp_path / "missing")


def test_clips_with_the_same_stem_keep_their_suffixes(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.png", noise(1))
    write_frames(tmp_path / "a", noise(1))
    make_clip(tmp_path / "a.mkv", frames=1)
    (tmp_path / "a.video.mp4").unlink(missing_ok=True)
    (tmp_path / "a.video.mkv").unlink(missing_ok=True)
    assert [clip.name for clip in plan_clips(tmp_path)] == ["a", "a.mkv", "a.png"]


def test_ssim_has_the_values_of_the_table(tmp_path: Path) -> None:
    """One frame by hand, through every step: read, cut, degraded, enlarged, luma, border."""
    (hr,) = noise(1, 67, 72)
    clip = only_clip(write_frames(tmp_path / "a", [hr]))
    small = Image.fromarray(hr[:64]).resize((18, 16), Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((72, 64), Image.Resampling.BICUBIC))
    expected = ssim(rgb_to_y(large), rgb_to_y(hr[:64]), crop_border=8)
    assert evaluate_clip(clip, BICUBIC).means.ssim_y == pytest.approx(expected, abs=2e-3)
