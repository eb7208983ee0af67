"""Where a network does worst: found in one pass, kept in bounds, drawn as it was."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ristn_cli.evaluation import failures as module
from ristn_cli.evaluation.failures import (
    LABEL_ROW,
    MARGIN,
    PLACE,
    ZOOM,
    Failure,
    Failures,
    draw_failures,
    places,
    spread,
)
from ristn_cli.evaluation.methods import interpolate_bicubic
from ristn_cli.evaluation.metrics import psnr_y
from ristn_cli.evaluation.scoring import FrameScores, ScoredFrame

PLACES = [(row, column) for row in range(3) for column in range(4)]
SCORES = FrameScores(psnr_y=0, ssim_y=0)
PLACE_OF = Failure(clip="a", frame=0, x=8, y=8, width=160, height=160, psnr_y=20, bicubic_psnr_y=22)


def scored(index: int, *, spoilt: dict[tuple[int, int], int], height: int = 344, width: int = 504) -> ScoredFrame:
    """A frame whose network is right but for some levels at the places of `spoilt`, by row and column of places."""
    lr = np.random.default_rng(index).integers(60, 190, (height // 4, width // 4, 3), dtype=np.uint8)
    hr = interpolate_bicubic(lr) // 2 * 2  # bicubic is almost right everywhere
    hr[::2, ::2] += 16
    sr = hr.copy()
    for (row, column), levels in spoilt.items():
        rows, columns = spread(height)[row], spread(width)[column]
        sr[rows.start + 20 : rows.stop - 20, columns.start + 20 : columns.stop - 20] += np.uint8(levels)
    return ScoredFrame(index, SCORES, hr, lr, sr)


@pytest.mark.parametrize("side", [32, 64, 176, 177, 344, 480, 1080])
def test_places_cover_a_side_within_the_border(side: int) -> None:
    found = spread(side)
    assert (found[0].start, found[-1].stop) == (8, side - 8)
    assert {place.stop - place.start for place in found} == {min(PLACE, side - 16)}
    assert all(after.start <= before.stop for before, after in pairwise(found))
    assert len(found) == len({place.start for place in found})


def test_the_worst_frame_of_a_place_is_found_and_measured() -> None:
    assert len(list(places(344, 504))) == 12
    failures = Failures()
    frames = [scored(0, spoilt={(0, 0): 20}), scored(1, spoilt={(0, 0): 30}), scored(2, spoilt={(0, 0): 25})]
    for frame in frames:
        failures.add("a", frame)
    (worst,) = failures.choose(1)
    found = worst.failure
    assert (found.clip, found.frame, found.x, found.y) == ("a", 1, 8, 8)
    place = np.s_[8 : 8 + found.height, 8 : 8 + found.width]
    hr, sr, bicubic = frames[1].hr[place], frames[1].sr[place], interpolate_bicubic(frames[1].lr)[place]
    assert found.psnr_y == psnr_y(sr, hr)
    assert found.bicubic_psnr_y == psnr_y(bicubic, hr)
    for picture, expected in zip(worst.pictures, (bicubic, sr, hr), strict=True):
        assert np.array_equal(picture, expected)
    assert len(failures.worst) < 12  # what equals the original is no failure


def test_a_finished_clip_keeps_only_places_that_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    whole, ended = Failures(), Failures()
    for clip in ("a", "b"):
        for index in range(2):
            frame = scored(index, spoilt={(row, column): 9 + 7 * row + 3 * column for row, column in PLACES})
            for failures in (whole, ended):
                failures.add(clip, frame)
        ended.end_clip(clip)
    assert len(ended.worst) <= 6 < len(whole.worst)
    assert [shown.failure for shown in ended.choose(3)] == [shown.failure for shown in whole.choose(3)]


def test_each_clip_is_shown_first_and_places_of_a_clip_do_not_touch() -> None:
    failures = Failures()
    failures.add("a", scored(0, spoilt={(0, 0): 40, (0, 1): 38, (0, 2): 36, (1, 2): 20}))
    failures.add("b", scored(0, spoilt={(1, 1): 10}))
    assert [shown.failure.clip for shown in failures.choose(2)] == ["a", "b"]
    chosen = [shown.failure for shown in failures.choose(4)]
    assert sorted(chosen, key=lambda failure: failure.badness) == chosen
    assert [failure.clip for failure in chosen].count("a") >= 2
    for first, second in pairwise(failure for failure in chosen if failure.clip == "a"):
        assert first.is_apart(second)
    assert not PLACE_OF.is_apart(replace(PLACE_OF, frame=90, x=168))
    assert PLACE_OF.is_apart(replace(PLACE_OF, x=169))
    assert PLACE_OF.is_apart(replace(PLACE_OF, clip="b"))
    assert Failures().choose(4) == []


def test_ties_go_to_the_larger_error() -> None:
    darker = replace(PLACE_OF, psnr_y=18, bicubic_psnr_y=20)
    assert darker.badness < PLACE_OF.badness < replace(PLACE_OF, psnr_y=21).badness


def test_a_row_shows_bicubic_ours_and_the_original() -> None:
    failures = Failures()
    failures.add("a", scored(0, spoilt={(0, 0): 40}))
    failures.add("b", scored(1, spoilt={(1, 1): 30}))
    chosen = failures.choose(2)
    sheet = draw_failures(chosen, "ours")
    side = PLACE * ZOOM
    assert sheet.shape == (MARGIN + 2 * (LABEL_ROW + side + MARGIN), MARGIN + 3 * (side + MARGIN), 3)
    for row, shown in enumerate(chosen):
        top = MARGIN + LABEL_ROW + row * (LABEL_ROW + side + MARGIN)
        for column, picture in enumerate(shown.pictures):
            left = MARGIN + column * (side + MARGIN)
            cell = sheet[top : top + side, left : left + side]
            assert np.array_equal(cell[::ZOOM, ::ZOOM], picture)
            assert np.array_equal(cell[1::ZOOM, 1::ZOOM], picture)
            assert sheet[top - LABEL_ROW : top, left : left + side].min() < 60  # its label
