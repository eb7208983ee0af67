"""Training windows: reproducible by number, moved by whole pixels, reduced as evaluation reduces them."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from ristn_cli.degradation import decimate, degrade, quantize
from ristn_cli.model import RISTNConfig
from ristn_cli.training import data, material, motion
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.material import FrameCache
from ristn_cli.training.motion import Cut, Layer, View, WindowPlan
from ristn_cli.training.recipe import DataRecipe, Recipe, RecipeError, StageRecipe
from ristn_cli.video import write_image

STAGE = StageRecipe(name="only", iterations=50, frames=3, patch=6, batch=2)
SIZE = 4 * (STAGE.patch + 2 * data.MARGIN)


def make_recipe(*stages: StageRecipe, **of_data: Any) -> Recipe:
    settings = {"clips": "", "text_share": 0.0, "warp_share": 0.3} | of_data
    return Recipe(name="test", model=RISTNConfig(), stages=stages or (STAGE,), data=DataRecipe(**settings), seed=5)


def make_still(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def write_clip(path: Path, frames: np.ndarray) -> None:
    """A lossless clip of (N, H, W, 3) uint8 at 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for image in frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of noise and two clips."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "photos").mkdir()
    (folder / "clips").mkdir()
    for number in range(3):
        write_image(folder / "photos" / f"{number}.png", make_still(90, 110, seed=number).permute(1, 2, 0).numpy())
    rng = np.random.default_rng(9)
    for number in range(2):
        write_clip(folder / "clips" / f"{number}.mkv", rng.integers(0, 256, (4, 48, 56, 3), dtype=np.uint8))
    return folder


# Batches


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("cache_gib", [4.0, 1e-9])
def test_a_batch_depends_on_its_number_and_nothing_else(folder: Path, cache_gib: float) -> None:
    recipe = make_recipe(clips="clips", clip_share=0.4, cache_gib=cache_gib)
    windows = TrainingWindows(recipe, folder)
    first = [windows[number] for number in (0, 1, 2, 3)]
    assert equal(windows[3], first[3])
    fresh = TrainingWindows(make_recipe(clips="clips", clip_share=0.4), folder)
    for number in (2, 0, 3, 1):
        assert equal(fresh[number], first[number])
    assert not equal(first[0], first[1])
    other_seed = TrainingWindows(replace(recipe, seed=6), folder)
    assert not equal(other_seed[0], first[0])


def test_shapes_over_stages_and_processes(folder: Path) -> None:
    spatial = replace(STAGE, part="spatial", iterations=2, batch=3)
    windows = TrainingWindows(make_recipe(spatial, STAGE), folder, world=2)
    assert len(windows) == 2 * 52
    for number in (0, 3):  # the two processes' batches of steps 0 and 1
        lr, hr = windows[number]
        assert (lr.shape, hr.shape) == ((3, 1, 3, 6, 6), (3, 1, 3, 24, 24))
    lr, hr = windows[4]
    assert (lr.shape, hr.shape) == ((2, 3, 3, 6, 6), (2, 3, 3, 24, 24))
    assert lr.dtype == hr.dtype == torch.uint8


def test_lr_is_the_reduction_of_a_wider_view(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_still(SIZE + 32, SIZE + 32).float().div(255).expand(STAGE.frames, -1, -1, -1)
    monkeypatch.setattr(data, "render_window", lambda *_: scene[..., 16:-16, 16:-16])
    lr, hr = TrainingWindows(make_recipe(), folder)[0]
    border = 16 + 4 * data.MARGIN
    assert torch.equal(hr[0], scene[..., border:-border, border:-border].mul(255).round().to(torch.uint8))
    expected = quantize(degrade(scene))[..., border // 4 : -border // 4, border // 4 : -border // 4]
    difference = lr[0].int() - expected.mul(255).round().int()
    assert difference.abs().max() <= 1  # sums in another order, halves rounded the other way
    assert (difference == 0).float().mean() > 0.999


def test_aliased_lr_fades_into_the_reduction(folder: Path) -> None:
    stage = replace(STAGE, iterations=12, aliasing_until=9)
    assert [stage.aliasing_at(step) for step in (0, 3, 6, 9, 11)] == pytest.approx([1, 1, 0.5, 0, 0])
    aliased, plain = (TrainingWindows(make_recipe(s), folder) for s in (stage, STAGE))
    for number, share in ((0, 1.0), (6, 0.5), (10, 0.0)):
        (lr, hr), (reduced, same_hr) = aliased[number], plain[number]
        assert torch.equal(hr, same_hr)
        sharp = decimate(hr.flatten(0, 1).float()).view(lr.shape)
        expected = share * sharp + (1 - share) * reduced.float()
        assert (lr - expected).abs().max() <= 1


def test_the_spatial_part_trains_on_stills_where_there_are_any(folder: Path) -> None:
    spatial = replace(STAGE, part="spatial")
    windows = TrainingWindows(make_recipe(spatial, clips="clips", clip_share=1.0), folder)
    windows[0]
    assert {path.suffix for path in windows.cache._cached} == {".png"}
    windows = TrainingWindows(make_recipe(clips="clips", clip_share=1.0), folder)
    windows[0]
    assert {path.suffix for path in windows.cache._cached} == {".mkv"}
    windows = TrainingWindows(make_recipe(spatial, photos="", clips="clips", clip_share=0.1), folder)
    windows[0]
    assert {path.suffix for path in windows.cache._cached} == {".mkv"}


def test_drawings_are_drawn_like_photographs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(folder / "photos")
    (tmp_path / "drawings").mkdir()
    write_image(tmp_path / "drawings" / "page.png", make_still(90, 90).permute(1, 2, 0).numpy())
    windows = TrainingWindows(make_recipe(drawings="drawings"), tmp_path)
    assert [path.parent.name for path in windows.stills] == ["photos"] * 3 + ["drawings"]
    sources = [window.scene.source for number in range(50) for window in windows.plan(number).windows]
    assert 10 < sources.count(tmp_path / "drawings" / "page.png") < 40  # of a hundred, one source in four


def test_drawings_have_a_share_of_their_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(folder / "photos")
    (tmp_path / "drawings").mkdir()
    (tmp_path / "clips").symlink_to(folder / "clips")
    for name in ("a", "b"):
        write_image(tmp_path / "drawings" / f"{name}.png", make_still(90, 90).permute(1, 2, 0).numpy())

    def share(**of_data: Any) -> float:
        windows = TrainingWindows(make_recipe(replace(STAGE, iterations=200), drawings="drawings", **of_data), tmp_path)
        scenes = [window.scene for number in range(200) for window in windows.plan(number).windows]
        drawn = [isinstance(scene.source, Path) and scene.source.parent.name == "drawings" for scene in scenes]
        return sum(drawn) / len(drawn)

    assert share(drawing_share=0.15) == pytest.approx(0.15, abs=0.05)
    assert share(drawing_share=0.15, clips="clips", clip_share=0.5) == pytest.approx(0.15, abs=0.05)
    assert share() == pytest.approx(2 / 5, abs=0.07)  # like photographs, two of five
    with pytest.raises(RecipeError, match=r"drawing_share is 0\.15, but drawings '' is empty"):
        TrainingWindows(make_recipe(drawing_share=0.15), tmp_path)


def test_layer_share_and_exposure_share_are_met(folder: Path) -> None:
    windows = TrainingWindows(make_recipe(layer_share=0.5, exposure=0.2, exposure_share=0.5), folder)
    plans = [window for number in range(40) for window in windows.plan(number).windows]
    assert 25 < sum(bool(plan.layers) for plan in plans) < 55
    assert {len(plan.layers) for plan in plans} == {0, 1, 2}
    drifts = [abs(plan.exposure) for plan in plans if plan.exposure]
    assert 25 < len(drifts) < 55
    assert 0.1 < max(drifts) <= 0.2
    plain = TrainingWindows(make_recipe(), folder)
    assert not any(window.layers or window.exposure for number in range(9) for window in plain.plan(number).windows)


def test_fade_share_is_met_and_keeps_the_other_choices(folder: Path) -> None:
    windows, plain = (TrainingWindows(make_recipe(fade_share=share), folder) for share in (0.5, 0.0))
    plans = [windows.plan(number).windows for number in range(40)]
    fades = [plan.fade for batch in plans for plan in batch if plan.fade]
    assert 25 < len(fades) < 55
    assert 3 <= sum(fade.scene is None for fade in fades) < len(fades) / 2  # to black
    assert all(6 <= fade.length <= 60 and 1 - fade.length <= fade.first <= STAGE.frames - 2 for fade in fades)
    first, same = plans[0][0], plain.plan(0).windows[0]
    assert first.scene.source == same.scene.source
    assert first.flips == same.flips
    assert not any(window.fade for number in range(9) for window in plain.plan(number).windows)


def test_still_share_is_met(folder: Path) -> None:
    for share, least, most in ((0.0, 0, 0), (0.5, 25, 55), (1.0, 80, 80)):
        windows = TrainingWindows(make_recipe(replace(STAGE, still_share=share)), folder)
        plans = [window for number in range(40) for window in windows.plan(number).windows]
        assert least <= sum(not plan.scene.path.any() for plan in plans) <= most


def test_motion_grows_over_a_stage() -> None:
    stage = replace(STAGE, iterations=11, fastest_at_start=5.0, fastest=15.0)
    assert [stage.fastest_at(step) for step in (0, 5, 10)] == [5, 10, 15]
    assert STAGE.fastest_at(0) == STAGE.fastest_at(49) == STAGE.fastest


def test_training_without_material_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no photographs in 'photos' and no clips in ''"):
        TrainingWindows(make_recipe(), tmp_path)


def test_a_clip_smaller_than_a_patch_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "small.mkv", np.zeros((2, 32, 64, 3), dtype=np.uint8))
    windows = TrainingWindows(make_recipe(clips="clips"), tmp_path)
    with pytest.raises(RecipeError, match=r"small\.mkv: 64x32 is too small to cut 40x40 pixels from"):
        windows[0]


def test_flat_places_are_avoided(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "flat.png", np.full((90, 90, 3), 128, dtype=np.uint8))
    write_image(tmp_path / "photos" / "noise.png", make_still(90, 90).permute(1, 2, 0).numpy())
    windows = TrainingWindows(make_recipe(warp_share=0.0), tmp_path)
    flat = sum(int((hr.amax(dim=(1, 2, 3, 4)) == 128).sum()) for hr in (windows[n][1] for n in range(20)))
    assert flat < 0.2 * 40  # each of four candidates is flat half of the time: all four, one time in sixteen


# Motion


def view(path: list[list[float]] | np.ndarray, place: tuple[float, float] = (0.5, 0.5), **changes: Any) -> View:
    return View(**{"source": 0, "place": np.array(place), "path": np.array(path), "reduction": 1.0} | changes)


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 0.5)])
def test_shifted_frames_are_crops_at_the_rounded_path(place: tuple[float, float]) -> None:
    still = make_still(60, 70)
    frames = motion.shift_still(still, view([[0.0, 0.0], [1.4, -0.6], [3.6, 2.2]], place), 20)
    room_below, room_right = 60 - 24, 70 - 23  # the path is 4 pixels tall and 3 wide
    top, left = round(room_below * place[0]), round(room_right * place[1])
    for frame, (y, x) in zip(frames, [(0, 1), (1, 0), (4, 3)], strict=True):
        expected = still[:, top + y : top + y + 20, left + x : left + x + 20].float() / 255
        torch.testing.assert_close(frame, expected, rtol=0, atol=1e-6)


def test_shifted_frames_of_a_reduced_still_share_their_pixels() -> None:
    frames = motion.shift_still(make_still(120, 120), view([[0.0, 0.0], [5.2, -3.1]], reduction=1.7), 24)
    assert torch.equal(frames[0, :, 5:, :-3], frames[1, :, :-5, 3:])
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_a_still_too_small_to_move_stays_sharp() -> None:
    path = [[0.0, 0.0], [40.0, 0.0]]
    still = make_still(60, 60)
    frames = motion.shift_still(still, view(path, (0.0, 0.0), reduction=2.0), 30)
    assert torch.equal(frames[0], frames[1])
    standing = motion.shift_still(still, view(np.zeros((1, 2)), (0.0, 0.0), reduction=2.0), 30)
    assert torch.equal(frames[0], standing[0])
    tiny = motion.shift_still(make_still(12, 16), view(path, (0.3, 0.3), reduction=2.0), 30)
    assert tiny.shape == (2, 3, 30, 30)


def test_warped_frames_move_by_the_path() -> None:
    columns = torch.arange(200, dtype=torch.uint8).expand(3, 180, 200)
    path = np.array([[0.0, 0.0], [2.0, 1.5], [5.0, -4.0]])
    frames = motion.warp_still(columns, view(path, reduction=1.5, is_warped=True), 24).mul(255)
    for t in range(3):
        torch.testing.assert_close(frames[t].diff(dim=-1), torch.full((3, 24, 23), 1.5), rtol=0, atol=1e-2)
        torch.testing.assert_close(frames[t].diff(dim=-2), torch.zeros(3, 23, 24), rtol=0, atol=1e-2)
        shift = torch.full((3, 24, 24), 1.5 * path[t, 1])
        torch.testing.assert_close(frames[t] - frames[0], shift, rtol=0, atol=1e-2)


def test_warping_stays_within_a_constant() -> None:
    grey = torch.full((3, 70, 50), 77, dtype=torch.uint8)
    path = motion.camera_path(np.random.default_rng(3), 5, fastest=16.0, still_share=0.05)
    turning = motion.plan_warp(np.random.default_rng(0), view(path, (0.9, 0.1), reduction=2.2))
    assert turning.turn
    assert turning.growth
    frames = motion.warp_still(grey, turning, 40)
    torch.testing.assert_close(frames, torch.full((5, 3, 40, 40), 77 / 255), rtol=0, atol=1e-5)


def test_a_layer_moves_by_its_own_path_and_carries_its_mask_along() -> None:
    black, white = torch.zeros(3, 90, 90, dtype=torch.uint8), torch.full((3, 90, 90), 255, dtype=torch.uint8)
    noise = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    layer = Layer(view=view([[0.0, 0.0], [3.0, -2.0]], source=1), noise=noise, threshold=0.0)
    plan = WindowPlan(scene=view([[0.0, 0.0], [0.0, 5.0]], source=0), layers=(layer,))
    frames = motion.render_window(plan, 40, [black, white].__getitem__)
    assert torch.equal(frames[0, :, 3:, :-2], frames[1, :, :-3, 2:])  # nothing but the layer is seen to move
    assert frames.min() == 0
    assert frames.max() == 1
    assert ((frames > 0.01) & (frames < 0.99)).float().mean() < 0.35  # its edge is a few pixels wide
    hidden = motion.render_window(
        replace(plan, layers=(replace(layer, threshold=9.0),)), 40, [black, white].__getitem__
    )
    assert not hidden.any()


def test_layers_cover_some_tenths_of_a_window() -> None:
    white = torch.full((3, 150, 150), 255, dtype=torch.uint8)
    covered = []
    for seed in range(60):
        layer = motion.plan_layer(np.random.default_rng(seed), view(np.zeros((1, 2))))
        covered.append(float(motion.render_layer(white, layer, 112)[1].mean()))
    assert 0.2 < np.mean(covered) < 0.5
    assert np.std(covered) > 0.1


def test_exposure_drifts_from_below_to_above() -> None:
    grey = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    plan = WindowPlan(scene=view(np.zeros((3, 2))), exposure=0.1)
    frames = motion.render_window(plan, 20, lambda _: grey) * 255
    for frame, level in zip(frames, (95, 100, 105), strict=True):
        torch.testing.assert_close(frame, torch.full((3, 20, 20), float(level)))


@pytest.mark.parametrize(("scene", "levels"), [(True, (100, 120, 160, 200)), (False, (100, 80, 40, 0))])
def test_fades_are_linear_and_end_at_the_other_scene(scene: bool, levels: tuple[float, ...]) -> None:
    stills = [torch.full((3, 40, 40), level, dtype=torch.uint8) for level in (100, 200)]
    other = replace(view(np.zeros((4, 2))), source=1) if scene else None
    plan = WindowPlan(scene=view(np.zeros((4, 2))), fade=motion.Fade(scene=other, first=0.5, length=2.5))
    frames = motion.render_window(plan, 20, stills.__getitem__) * 255
    for frame, level in zip(frames, levels, strict=True):
        torch.testing.assert_close(frame, torch.full((3, 20, 20), float(level)))


def test_camera_paths_begin_at_zero_and_keep_their_speed() -> None:
    paths = [motion.camera_path(np.random.default_rng(seed), 4, fastest=8.0, still_share=0.05) for seed in range(400)]
    assert all(path.shape == (4, 2) and not path[0].any() for path in paths)
    standing = sum(not path.any() for path in paths)
    assert 5 <= standing <= 40  # one in twenty
    speeds = [float(np.hypot(*path[1])) for path in paths if path.any()]
    slack = 1 + math.sqrt(2) / 6  # half of the acceleration, at most a third of the speed along each axis
    assert 0.6 * (2 - slack) <= min(speeds) < 1
    assert 6 < max(speeds) <= 8 * slack
    assert np.median(speeds) == pytest.approx(math.sqrt(0.6 * 8), rel=0.25)  # evenly over the logarithm


# Clips


def cut(count: int, frames: int, longest_stride: int, seed: int) -> list[int]:
    clip = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 50, 60)
    rng = np.random.default_rng(seed)
    plan = motion.plan_cut(rng, Path("a.mkv"), count, np.array([0.5, 0.5]), frames, longest_stride)
    window = motion.cut_clip(clip, plan, 20)
    assert window.shape == (frames, 3, 20, 20)
    return [round(float(value)) for value in window[:, 0, 0, 0] * 255]


def test_clips_are_read_at_random_times_and_strides() -> None:
    strides, firsts = set(), set()
    for seed in range(60):
        times = cut(count=20, frames=4, longest_stride=3, seed=seed)
        (stride,) = {after - before for before, after in pairwise(times)}
        strides.add(stride)
        firsts.add(times[0])
        assert times[0] >= 0
        assert times[-1] < 20
    assert strides == {1, 2, 3}
    assert len(firsts) > 10


def test_short_clips_are_read_at_smaller_strides_then_back_and_forth() -> None:
    for seed in range(10):
        assert cut(count=5, frames=5, longest_stride=3, seed=seed) == [0, 1, 2, 3, 4]
        assert cut(count=3, frames=5, longest_stride=3, seed=seed) == [0, 1, 2, 1, 0]
        assert cut(count=1, frames=3, longest_stride=3, seed=seed) == [0, 0, 0]


def test_clips_are_cut_where_they_were_asked_to_be() -> None:
    clip = make_still(30, 40)[None]
    for place, top, left in (((0.0, 0.0), 0, 0), ((0.999, 0.999), 9, 19), ((0.5, 0.25), 5, 5)):
        window = motion.cut_clip(clip, Cut(source=Path("a.mkv"), place=np.array(place), times=(0,)), 20)
        torch.testing.assert_close(window[0] * 255, clip[0, :, top : top + 20, left : left + 20].float())


def test_flips_are_each_made_half_of_the_time() -> None:
    window = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(320):
        flipped = motion.flip(window, motion.plan_flips(np.random.default_rng(seed)))
        assert torch.equal(flipped.flatten().sort().values, window.flatten())
        key = tuple(flipped.flatten().tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 16  # left-right, top-bottom, transposed, reversed in time, in every combination
    assert min(seen.values()) > 5


# Sources


def test_the_cache_evicts_the_least_recently_used_within_its_budget() -> None:
    reads: list[str] = []

    def read(key: str) -> Tensor:
        reads.append(key)
        return torch.zeros(100, dtype=torch.uint8)

    cache = FrameCache(250)
    for key in "abacab":  # c drops b, the second b drops c
        cache.get(key, read)
        assert cache.cached_bytes <= 250
    assert reads == ["a", "b", "c", "b"]
    large = FrameCache(50)
    large.get("a", read)
    assert large.cached_bytes == 100  # one file is held whatever it takes
    large.get("b", read)
    assert large.cached_bytes == 100


def test_pages_are_the_same_every_time_and_differ() -> None:
    page = material.render_page(3, 200, 150)
    assert page.shape == (3, 150, 200)
    assert page.dtype == torch.uint8
    assert torch.equal(page, material.render_page(3, 200, 150))
    assert not torch.equal(page, material.render_page(4, 200, 150))
    assert material.detail(material.render_page(0), np.array([0.5, 0.5]), 300) > 1


def test_detail_is_the_mean_change_over_three_pixels_of_green() -> None:
    frame = torch.zeros(3, 40, 40, dtype=torch.uint8)
    frame[1] = 2 * torch.arange(40)
    assert material.detail(frame, np.array([0.2, 0.9]), 20) == 6
    assert material.detail(frame[[1, 0, 2]], np.array([0.2, 0.9]), 20) == 0
    assert material.detail(frame, np.array([0.5, 0.5]), 100) == 6  # larger than the frame: the whole of it


def test_photographs_and_clips_are_read_as_they_were_written(tmp_path: Path) -> None:
    image = make_still(20, 30).permute(1, 2, 0).numpy()
    write_image(tmp_path / "a.png", image)
    assert torch.equal(material.read_photo(tmp_path / "a.png"), torch.from_numpy(image).permute(2, 0, 1))
    write_image(tmp_path / "deep.png", np.minimum(image.astype(int) * 257 + 100, 65535).astype(np.uint16))
    assert torch.equal(material.read_photo(tmp_path / "deep.png"), torch.from_numpy(image).permute(2, 0, 1))
    frames = np.stack([image, image[::-1], image[:, ::-1]])
    write_clip(tmp_path / "a.mkv", frames)
    assert torch.equal(material.read_clip(tmp_path / "a.mkv"), torch.from_numpy(frames).permute(0, 3, 1, 2))


def test_files_are_listed_below_a_folder_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "c.txt", "a.png", "a/b/c.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in material.list_files(tmp_path, material.IMAGE_SUFFIXES)]
    assert found == ["a/b/c.jpeg", "a/z.jpg", "a.png", "b.PNG"]
    assert material.list_files(tmp_path / "none", material.IMAGE_SUFFIXES) == []


def test_real_footage_keeps_the_windows_and_the_seed(folder: Path) -> None:
    clean = TrainingWindows(make_recipe(), folder)
    real, again = (TrainingWindows(make_recipe(degradation="real", clean_share=0.0), folder) for _ in range(2))
    for number in (3, 0):
        lr, hr = real[number]
        assert torch.equal(hr, clean[number][1])
        assert lr.shape == clean[number][0].shape
        assert not torch.equal(lr, clean[number][0])
        assert torch.equal(lr, again[number][0])


def test_degradations_are_those_of_the_batch_number(folder: Path) -> None:
    table = DegradationRecipe(low_light=0.3, vhs=0.3, sharpened=0.3, strong=0.3, twice=0.3, dvd=0.3)
    recipe = make_recipe(degradation="real", clean_share=0.1, lead=1, surround=4)
    plain = TrainingWindows(recipe, folder)
    first = [TrainingWindows(replace(recipe, degradations=table), folder)[number] for number in range(4)]
    resumed = TrainingWindows(replace(recipe, degradations=table), folder)
    for number in (3, 1, 2, 0):
        assert equal(resumed[number], first[number])
        assert torch.equal(first[number][1], plain[number][1])
        assert first[number][0].shape == plain[number][0].shape


def test_lead_and_surround_are_degraded_with_the_window_and_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def darken_the_rest(rng: np.random.Generator, lr: Tensor, *_: object) -> Tensor:
        shapes.append(tuple(lr.shape))
        lr = lr.clone()
        lr[:2], lr[..., :6], lr[..., :6, :] = 0, 0, 0
        return lr

    monkeypatch.setattr("ristn_cli.training.footage.degrade_footage", darken_the_rest)
    recipe = make_recipe(degradation="real", lead=2, surround=6)
    lr, hr = TrainingWindows(recipe, folder)[0]
    frames, patch = STAGE.frames, STAGE.patch
    assert shapes == [(frames + 2, 3, patch + 12, patch + 12)] * STAGE.batch
    assert hr.shape == (STAGE.batch, frames, 3, 4 * patch, 4 * patch)
    inner = slice(data.MARGIN, -data.MARGIN)  # BI reads two pixels further
    expected = degrade(hr.flatten(0, 1).float().div(255)).view(lr.shape).mul(255)
    assert (lr.float() - expected)[..., inner, inner].abs().max() <= 1
