"""`--detail` makes pictures crisper, but not less steady than the weights at 0."""

import numpy as np
import pytest
from released_pictures import compressed_words, correlation, texture, upscale

from ristn_cli.evaluation.metrics import gradient_energy, rgb_to_y
from ristn_cli.video import compress_clip
from ristn_cli.weights import DEFAULT_DETAIL, choose_detail

CRISPER = pytest.mark.parametrize("detail", [DEFAULT_DETAIL, 1.0])


@CRISPER
def test_a_compressed_still_stays_still(detail: float) -> None:
    still = texture(40, 56, mean=120, spread=40).copy()
    still[:, 30:] //= 3
    frames = list(compress_clip([still] * 100, 28))
    softest, crisper = (np.abs(np.diff(upscale(choose_detail(value), frames), axis=0)).mean() for value in (0, detail))
    assert crisper <= softest


@CRISPER
def test_footage_becomes_crisper(detail: float) -> None:
    lr = list(compress_clip([np.roll(texture(40, 56, mean=120, spread=40), number, axis=1) for number in range(6)], 23))
    softest, crisper = (
        gradient_energy(rgb_to_y(upscale(choose_detail(value), lr)[3].astype(np.uint8))) for value in (0, detail)
    )
    assert crisper > 1.1 * softest


def test_compressed_words_are_closer_to_the_original_by_default() -> None:
    hr, lr = compressed_words()
    softest, crisper = (correlation(upscale(choose_detail(value), lr), hr) for value in (0, DEFAULT_DETAIL))
    assert crisper > softest
