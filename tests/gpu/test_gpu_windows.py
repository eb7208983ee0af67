"""Training windows that a real GPU renders, against those of a processor."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ristn_cli.model import RISTNConfig
from ristn_cli.training.batches import make_batches_on
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.recipe import DataRecipe, Recipe, StageRecipe
from ristn_cli.video import write_image

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: PyTorch sees none")


def test_windows_equal_those_of_a_processor_within_rounding(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{number}.png", image)
    stage = StageRecipe(name="only", iterations=8, frames=5, patch=16, batch=2, aliasing_until=8)
    data = DataRecipe(clips="", text_share=0.2, warp_share=0.5, layer_share=0.5, exposure_share=0.5)
    recipe = Recipe(name="test", model=RISTNConfig(), stages=(stage,), data=data)
    expected = TrainingWindows(recipe, tmp_path)
    device = torch.device("cuda")
    for number, made in enumerate(make_batches_on(device, TrainingWindows(recipe, tmp_path), range(8), workers=0)):
        for on_device, on_processor in zip(made, expected[number], strict=True):
            difference = (on_device.cpu().int() - on_processor.int()).abs()
            assert difference.max() <= 2
            assert (difference > 0).float().mean() < 0.01
