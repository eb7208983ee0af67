"""The invertible block against its inverse, RIB and RB against their sums, and parameter counts against formulas."""

import pytest
import torch
from torch import Tensor, nn

from ristn_cli.model.spatial import (
    ConvolutionalBottleneck,
    InvertibleBlock,
    NormKind,
    ResidualBlock,
    ResidualInvertibleBlock,
    SpatialComponent,
    make_block,
)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight, bias and running statistic a value that matters, for some of them start at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = 0.5 + torch.rand(layer.weight.shape, generator=generator)
            layer.running_mean = torch.randn(layer.num_features, generator=generator)
            layer.running_var = 0.5 + torch.rand(layer.num_features, generator=generator)
    return module.eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("bottlenecks", [2, 3, 6])
@torch.no_grad()
def test_the_inverse_undoes_the_block(norm: NormKind, bottlenecks: int) -> None:
    block = randomise(InvertibleBlock(12, bottlenecks, norm=norm))
    assert isinstance(block, InvertibleBlock)
    x = noise(2, 12, 7, 9)
    y = block(x)
    assert (y - x).abs().amax(dim=(0, 2, 3)).min() > 0.05  # no channel went through untouched
    torch.testing.assert_close(block.inverse(y), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(block(block.inverse(x)), x, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_step_is_equation_2_and_the_exchange() -> None:
    block = randomise(InvertibleBlock(8, 2, norm="none"))
    assert isinstance(block, InvertibleBlock)
    x = noise(1, 8, 5, 5)
    x0, x1 = x[:, :4], x[:, 4:]
    first, second = block.bottlenecks
    new_x1 = x1 + first(x0)
    newer_x1 = x0 + second(new_x1)
    torch.testing.assert_close(block(x), torch.cat([newer_x1, new_x1], dim=1))


@pytest.mark.parametrize("norm", ["batch", "none"])
@torch.no_grad()
def test_rib_is_its_invertible_block_plus_the_input(norm: NormKind) -> None:
    rib = randomise(ResidualInvertibleBlock(8, 3, norm=norm))
    assert isinstance(rib, ResidualInvertibleBlock)
    x = noise(2, 8, 6, 5)
    torch.testing.assert_close(rib(x), rib.invertible(x) + x, rtol=0, atol=0)
    ib = InvertibleBlock(8, 3, norm=norm).eval()
    ib.load_state_dict(rib.invertible.state_dict())
    torch.testing.assert_close(rib(x) - x, ib(x))


@torch.no_grad()
def test_rb_adds_each_bottleneck_to_its_input() -> None:
    rb = randomise(ResidualBlock(8, 2, norm="none"))
    assert isinstance(rb, ResidualBlock)
    x = noise(1, 8, 5, 6)
    first, second = rb.bottlenecks
    middle = x + first(x)
    torch.testing.assert_close(rb(x), middle + second(middle))


def test_a_bottleneck_is_three_convolutions_each_after_norm_and_relu_save_the_very_first() -> None:
    def layers(norm: NormKind, *, first: bool) -> list[str]:
        return [type(layer).__name__ for layer in ConvolutionalBottleneck(8, 2, norm=norm, first=first)]

    before = ["BatchNorm2d", "ReLU"]
    assert layers("batch", first=True) == ["Conv2d", *before, "Conv2d", *before, "Conv2d"]
    assert layers("batch", first=False) == [*before, "Conv2d", *before, "Conv2d", *before, "Conv2d"]
    assert layers("none", first=False) == ["ReLU", "Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]


@torch.no_grad()
def test_without_normalisation_blocks_of_any_depth_start_as_identities() -> None:
    x = noise(1, 8, 4, 4)
    assert torch.equal(ResidualBlock(8, 5, norm="none")(x), x)
    assert torch.equal(InvertibleBlock(8, 4, norm="none")(x), x)
    assert torch.equal(ResidualInvertibleBlock(8, 4, norm="none")(x), 2 * x)


def bottleneck_parameters(channels: int, width: int, *, norm: bool, first: bool) -> int:
    convolutions = (9 * channels + 1) * width + (9 * width + 1) * width + (9 * width + 1) * channels
    normalisations = 2 * (2 * width + (0 if first else channels)) if norm else 0
    return convolutions + normalisations


def block_parameters(channels: int, width: int, bottlenecks: int, *, norm: bool) -> int:
    return sum(bottleneck_parameters(channels, width, norm=norm, first=index == 0) for index in range(bottlenecks))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("channels", "bottlenecks", "divisor"), [(16, 6, 3), (128, 10, 3), (64, 4, 1), (6, 1, 4)])
def test_parameters_of_a_block(channels: int, bottlenecks: int, divisor: int, norm: NormKind) -> None:
    half = channels // 2
    expected = block_parameters(half, max(1, half // divisor), bottlenecks, norm=norm == "batch")
    assert count(make_block("rib", channels, bottlenecks, divisor=divisor, norm=norm)) == expected
    assert count(make_block("ib", channels, bottlenecks, divisor=divisor, norm=norm)) == expected
    expected = block_parameters(channels, int(0.63 * channels), bottlenecks, norm=norm == "batch")
    assert count(make_block("rb", channels, bottlenecks, divisor=divisor, norm=norm)) == expected


@torch.no_grad()
def test_every_stage_concatenates_two_branches_that_read_the_same() -> None:
    component = SpatialComponent(16, (1, 2), (2, 1), block="rib", divisor=3, norm="batch")
    randomise(component)
    rgb = noise(3, 3, 5, 4)
    x = torch.cat([rgb, torch.zeros(3, 13, 5, 4)], dim=1)
    for (one, two), bottlenecks in zip(component.stages, [(1, 2), (2, 1)], strict=True):
        assert (len(one.invertible.bottlenecks), len(two.invertible.bottlenecks)) == bottlenecks
        x = torch.cat([one(x), two(x)], dim=1)
    assert x.shape == (3, component.out_channels, 5, 4) == (3, 64, 5, 4)
    torch.testing.assert_close(component(rgb), x)


def test_the_papers_stages_double_16_channels_to_256() -> None:
    with torch.device("meta"):
        component = SpatialComponent(16, (6, 8, 10, 10), (6, 6, 12, 6), block="rib", divisor=3, norm="batch")
        assert component(torch.empty(2, 3, 6, 8)).shape == (2, 256, 6, 8)
        x = torch.empty(2, 16, 6, 8)
        for stage, channels in zip(component.stages, (32, 64, 128, 256), strict=True):
            x = torch.cat([block(x) for block in stage], dim=1)
            assert x.shape[1] == channels


def test_channels_that_cannot_be_halved_and_unknown_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="7 is odd"):
        InvertibleBlock(7, 1)
    with pytest.raises(ValueError, match="unknown block 'xyz'"):
        make_block("xyz", 8, 1, divisor=1, norm="none")  # type: ignore[arg-type]
