"""Tiles: equal, covering, and blended by weights that sum to one."""

from itertools import pairwise

import numpy as np
import pytest

from ristn_cli.engine.blending import FEATHER, blend_weights
from ristn_cli.engine.tiles import plan_spans


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 100, 479, 1080])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 8), (128, 12), (32, 0)])
def test_spans_cover_the_axis_in_one_size_and_share_enough(length: int, tile: int, overlap: int) -> None:
    spans = plan_spans(length, tile, overlap)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    assert len({span.size for span in spans}) == 1
    assert spans[0].size <= tile
    for before, after in pairwise(spans):
        assert before.stop - after.start >= 2 * overlap


def test_the_fewest_tiles_are_used() -> None:
    assert len(plan_spans(208, 128, 24)) == 2  # 2 x 128 less 48 shared
    assert len(plan_spans(209, 128, 24)) == 3


@pytest.mark.parametrize(("length", "tile", "overlap"), [(1080, 128, 12), (100, 64, 8), (65, 32, 0), (33, 32, 15)])
def test_weights_sum_to_one_everywhere(length: int, tile: int, overlap: int) -> None:
    spans = plan_spans(length, tile, overlap)
    total = np.zeros(length * 4)
    for index, span in enumerate(spans):
        weights = blend_weights(spans, index, 4)
        assert weights.min() >= 0
        total[4 * span.start : 4 * span.stop] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_pixels_read_for_context_have_no_weight() -> None:
    spans = plan_spans(300, 128, 20)
    unused = 4 * (20 - FEATHER // 2)
    for index in range(1, len(spans)):
        assert not blend_weights(spans, index, 4)[:unused].any()
        assert not blend_weights(spans, index - 1, 4)[-unused:].any()


def test_a_tile_that_is_all_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="too small for an overlap"):
        plan_spans(100, 32, 16)
