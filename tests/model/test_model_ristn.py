"""The whole network: its sizes against formulas and Table 1, its depth, its gradients, and a golden output."""

import copy
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ristn_cli.model import CONFIGS, RISTN, RISTNConfig, bicubic_upsample, count_macs
from ristn_cli.model.mixing import Recurrent

TINY = RISTNConfig(
    base_channels=4,
    branch_one=(1, 2),
    branch_two=(2, 1),
    bottleneck_divisor=1,
    norm="none",
    lstm_layers=2,
    growth=3,
    refine_bottlenecks=1,
    upsampling_channels=(5, 4),
    deconvolution_kernel=2,
)
SMALLEST = replace(TINY, branch_one=(), branch_two=(), lstm_layers=0, refine_bottlenecks=0)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def make_random(config: RISTNConfig, seed: int = 0) -> RISTN:
    """A network in evaluation mode none of whose parameters is zero, as some are when training begins."""
    torch.manual_seed(seed)
    model = RISTN(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


# Parameter counts, written out from the paper's widths.


def convolution(channels_in: int, channels_out: int, kernel: int = 3) -> int:
    return (kernel**2 * channels_in + 1) * channels_out


def paper_spatial() -> int:
    total = 0
    for channels, one, two in zip((16, 32, 64, 128), (6, 8, 10, 10), (6, 6, 12, 6), strict=True):
        half, width = channels // 2, channels // 2 // 3
        convolutions = convolution(half, width) + convolution(width, width) + convolution(width, half)
        norms = 2 * (half + width + width)
        # A block's very first convolution has no normalisation before it.
        total += (one + two) * (convolutions + norms) - 2 * 2 * half
    return total


def paper_parameters(kernel: int) -> int:
    temporal = 2 * 256 + convolution(256, 320, 1)
    for width in (320, *range(32, 320, 32)):
        temporal += 2 * 4 * (convolution(width, 16) + 9 * 16 * 16)
    fusion = convolution(320, 256, 1) + 512 * 256
    reconstruction = 2 * (256 * kernel**2 + 1) * 256 + convolution(256, 3)
    return paper_spatial() + temporal + fusion + reconstruction


def meta_parameters(config: RISTNConfig) -> int:
    with torch.device("meta"):
        return RISTN(config).count_parameters()


@pytest.mark.parametrize("kernel", [2, 3])
def test_parameters_of_the_paper_by_formula(kernel: int) -> None:
    config = replace(CONFIGS["paper"], deconvolution_kernel=kernel)
    assert meta_parameters(config) == paper_parameters(kernel)
    # Without the temporal component: a normalisation and a 1x1 convolution in the place of it and the fusion.
    reconstruction = 2 * (256 * kernel**2 + 1) * 256 + convolution(256, 3)
    single_image = paper_spatial() + 2 * 256 + convolution(256, 256, 1) + reconstruction
    assert meta_parameters(replace(config, lstm_layers=0)) == single_image


@pytest.mark.parametrize(("block", "millions"), [("rib", 1.21), ("ib", 1.21), ("rb", 6.08)])
def test_parameters_of_the_single_image_networks_against_table_1(block: str, millions: float) -> None:
    config = RISTNConfig.from_dict(
        CONFIGS["paper"].to_dict() | {"block": block, "lstm_layers": 0, "deconvolution_kernel": 2}
    )
    assert meta_parameters(config) == pytest.approx(millions * 1e6, rel=0.02)


def test_the_light_network_is_light() -> None:
    assert meta_parameters(CONFIGS["ristn-lite"]) <= 1_000_000
    assert count_macs(CONFIGS["ristn-lite"]) <= 760_000


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, norm="batch", deconvolution_kernel=3, refine_bottlenecks=0),
        replace(TINY, lstm_layers=0),
        replace(TINY, pattern="c", fusion="none"),
        replace(TINY, gate_kernel=1, dense_input=True),
    ],
)
def test_multiply_accumulates_against_pytorchs_own_counter(config: RISTNConfig) -> None:
    # With T frames, T - 1 pass the hidden gates: 9 * growth * 4 * growth, twice, a layer.
    frames, size = 3, 6
    model = RISTN(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(noise(1, frames, 3, size, size))
    with FlopCounterMode(display=False) as of_weights, torch.no_grad():
        if isinstance(model.mixing, Recurrent):
            model.mixing.fusion.fold(model.mixing.temporal.convert)  # once, however many pixels there are
    taps = 3 + 9 if config.gate_kernel == 1 else 4 * 9
    never_computed = config.lstm_layers * 2 * taps * config.growth**2 * size**2
    macs = (counter.get_total_flops() - of_weights.get_total_flops()) / 2
    assert count_macs(config) == (macs + never_computed) / (frames * size**2)


def test_multiply_accumulates_of_the_paper_by_hand() -> None:
    # Per LR pixel every convolution costs its weights; deconvolutions at 1 and 4 times the pixels, the last at 16.
    spatial = 0
    for channels, one, two in zip((16, 32, 64, 128), (6, 8, 10, 10), (6, 6, 12, 6), strict=True):
        half, width = channels // 2, channels // 2 // 3
        spatial += (one + two) * 9 * (half * width + width * width + width * half)
    temporal = 256 * 320 + sum(9 * (width + 16) * 128 for width in (320, *range(32, 320, 32)))
    fusion = 320 * 256 + 512 * 256
    reconstruction = (1 + 4) * 4 * 256 * 256 + 16 * 9 * 256 * 3
    config = replace(CONFIGS["paper"], deconvolution_kernel=2)
    assert count_macs(config) == spatial + temporal + fusion + reconstruction


# Depth


def longest_path(output: Tensor) -> int:
    """Convolutions on the longest path that led to a tensor, by the graph that its gradient would take."""
    depths: dict[object, int] = {}
    pending = [output.grad_fn]
    while pending:
        node = pending[-1]
        assert node is not None
        before = [each for each, _ in node.next_functions if each is not None]
        unknown = [each for each in before if each not in depths]
        if unknown:
            pending += unknown
        else:
            depths[node] = max((depths[each] for each in before), default=0) + ("Convolution" in node.name())
            pending.pop()
    return depths[output.grad_fn]


def test_the_longest_path_of_the_paper_is_more_than_130_convolutions() -> None:
    """As the equations have it, one after the other; over two frames, so that hidden values are read."""
    with torch.device("meta"):
        model = RISTN(CONFIGS["paper"])
        mixing = model.mixing
        assert isinstance(mixing, Recurrent)
        spatial = model.spatial_features(torch.empty(2, 3, 4, 4))
        assert longest_path(spatial) == 3 * (6 + 8 + 12 + 10)
        assert longest_path(model.reconstruction(mixing.fusion(spatial, mixing.temporal(spatial, 2)))) == 134


# Names of tensors


@pytest.mark.parametrize(("layers", "parts"), [(2, ["temporal", "fusion"]), (0, ["mapping"])])
def test_weights_files_name_the_parts_of_the_mixing(layers: int, parts: list[str]) -> None:
    model = RISTN(replace(TINY, lstm_layers=layers))
    names = list(model.state_dict())
    assert list(dict.fromkeys(name.split(".")[0] for name in names)) == ["spatial", *parts, "refine", "reconstruction"]
    assert names == [name for name, _ in model.named_parameters()]


def test_a_copy_mixes_by_its_own_parts() -> None:
    model = make_random(TINY)
    lr = noise(1, 2, 3, 4, 4)
    with torch.no_grad():
        expected = model(lr)
        other = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(other(lr), expected)


# Learning


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, global_skip=True),
        replace(TINY, norm="batch", deconvolution_kernel=3),
        replace(TINY, gate_start="delay_line", pattern="dc"),
        replace(TINY, gate_start="delay_line", gate_kernel=1, dense_input=True, normalize_input=True),
        replace(TINY, fusion="none", pattern="rc"),
        replace(TINY, fusion="dense", pattern="c"),
        replace(TINY, block="ib"),
        replace(TINY, block="rb"),
        replace(TINY, lstm_layers=0),
    ],
    ids=lambda config: "-".join(str(v) for v in (config.block, config.norm, config.pattern, config.fusion)),
)
def test_gradient_reaches_every_parameter(config: RISTNConfig) -> None:
    model = make_random(config)
    sr = model(noise(1, 3, 3, 8, 8))
    (sr - noise(*sr.shape, seed=2)).square().mean().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_a_fresh_light_network_learns_through_its_zero_starts() -> None:
    """The last convolutions start at zero; after two steps gradient is in every parameter, the temporal ones too."""
    torch.manual_seed(0)
    model = RISTN(replace(TINY, global_skip=True, gate_start="delay_line"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    lr, hr = noise(1, 3, 3, 8, 8), noise(1, 3, 3, 32, 32, seed=2)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = (model(lr) - hr).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_sparsity_penalty_is_the_sum_of_absolute_values_where_fusion_is_sparse() -> None:
    model = make_random(TINY)
    matrix = model.get_parameter("fusion.matrix")
    assert model.sparsity_penalty().item() == pytest.approx(np.abs(matrix.detach().numpy()).sum(), rel=1e-5)
    for config in (replace(TINY, fusion="dense"), replace(TINY, fusion="none"), replace(TINY, lstm_layers=0)):
        assert make_random(config).sparsity_penalty().item() == 0


def test_temporal_share_of_the_whole_network() -> None:
    lr = noise(1, 3, 3, 6, 6)
    model = make_random(TINY)
    share = model.temporal_share(lr)
    assert share is not None
    assert 0 < share < 1
    with torch.no_grad():
        model.get_parameter("fusion.matrix")[: model.spatial.out_channels] = 0
    assert model.temporal_share(lr) == 0
    assert make_random(replace(TINY, fusion="none")).temporal_share(lr) is None
    assert make_random(replace(TINY, lstm_layers=0)).temporal_share(lr) is None


# Windows


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(
    ("batch", "frames", "height", "width"), [(1, 1, 1, 1), (2, 1, 3, 2), (1, 4, 1, 7), (2, 3, 5, 4)]
)
@torch.no_grad()
def test_as_many_frames_out_as_in(norm: str, batch: int, frames: int, height: int, width: int) -> None:
    config = RISTNConfig.from_dict(TINY.to_dict() | {"norm": norm, "global_skip": True})
    lr = noise(batch, frames, 3, height, width)
    sr = make_random(config)(lr)
    assert sr.shape == (batch, frames, 3, 4 * height, 4 * width)
    assert sr.isfinite().all()


@pytest.mark.parametrize("keep", [slice(1, 3), slice(2, 3), slice(0, 5), slice(1, -1), slice(None, None, 2)])
@torch.no_grad()
def test_kept_frames_are_those_of_the_whole_window(keep: slice) -> None:
    model = make_random(replace(TINY, global_skip=True))
    lr = noise(2, 5, 3, 4, 6)
    torch.testing.assert_close(model(lr, keep), model(lr)[:, keep], rtol=0, atol=1e-6)


@torch.no_grad()
def test_windows_of_a_batch_are_independent() -> None:
    model = make_random(replace(TINY, global_skip=True))
    lr = noise(3, 4, 3, 5, 5)
    torch.testing.assert_close(model(lr)[1:2], model(lr[1:2]), rtol=0, atol=1e-6)


@torch.no_grad()
def test_every_output_frame_depends_on_every_input_frame() -> None:
    model = make_random(TINY)
    lr = noise(1, 4, 3, 5, 5)
    for changed in range(4):
        other = lr.clone()
        other[:, changed] += 0.5
        assert ((model(other) - model(lr)).abs().amax(dim=(0, 2, 3, 4)) > 1e-7).all()


# Bicubic


@pytest.mark.parametrize("name", ["ristn", "ristn-lite", "ristn-lite-1"])
@torch.no_grad()
def test_a_fresh_network_with_a_global_skip_is_bicubic(name: str) -> None:
    lr = noise(1, 2, 3, 6, 5)
    expected = bicubic_upsample(lr[0])[None]
    assert torch.equal(RISTN(CONFIGS[name]).eval()(lr), expected)


def test_bicubic_equals_pillow() -> None:
    lr = noise(1, 3, 9, 7)
    expected = [
        np.asarray(Image.fromarray(plane).resize((28, 36), Image.Resampling.BICUBIC)) for plane in lr[0].numpy()
    ]
    np.testing.assert_allclose(bicubic_upsample(lr)[0].numpy(), np.stack(expected), atol=1e-5)


# Named sizes and golden values


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("pattern", ["c", "rc", "dc", "rdc"])
@pytest.mark.parametrize("fusion", ["sparse", "none"])
def test_named_networks_on_the_meta_device(name: str, pattern: str, fusion: str) -> None:
    reads_input = CONFIGS[name].dense_input and pattern in ("dc", "rdc")
    config = replace(CONFIGS[name], pattern=pattern, fusion=fusion, dense_input=reads_input)  # type: ignore[arg-type]
    with torch.device("meta"):
        sr = RISTN(config).eval()(torch.empty(2, 3, 3, 6, 10), keep=slice(1, 3))
    assert sr.shape == (2, 2, 3, 24, 40)


def test_the_paper_is_the_default() -> None:
    assert CONFIGS["paper"] == RISTNConfig()
    assert not CONFIGS["paper"].global_skip
    assert CONFIGS["paper"].refine_bottlenecks == 0


@torch.no_grad()
def test_golden_output() -> None:
    """Guards the initial weights and the arithmetic: a change of either must be meant."""
    torch.manual_seed(7)
    model = RISTN(replace(TINY, norm="batch")).eval()
    lr = torch.sin(torch.arange(2 * 3 * 4 * 4).float()).view(1, 2, 3, 4, 4) / 2 + 0.5
    sr = model(lr)
    corners = [sr[0, t, c, y, x].item() for t, c, y, x in ((0, 0, 0, 0), (0, 1, 5, 9), (1, 2, 15, 15), (1, 0, 8, 3))]
    assert corners == pytest.approx([0.132289, -0.082090, 0.172660, 0.120064], abs=1e-4)
    assert [float(sr.mean()), float(sr.std())] == pytest.approx([0.063980, 0.126531], abs=1e-4)


# Configurations


@pytest.mark.parametrize("name", list(CONFIGS))
def test_configurations_survive_a_round_trip(name: str) -> None:
    values = CONFIGS[name].to_dict()
    assert RISTNConfig.from_dict(values) == CONFIGS[name]
    assert values.keys() == asdict(CONFIGS[name]).keys()
    assert all(isinstance(value, int | str | bool | list) for value in values.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, "unknown key 'layers'"),
        ({"branch_one": [1]}, "branch_one has 1 stages and branch_two 4"),
        ({"base_channels": 7}, "base_channels 7"),
        ({"base_channels": 2}, "base_channels 2"),
        ({"lstm_layers": -1}, "a number of layers is negative"),
        ({"growth": 0}, "expected values of 1 or more"),
        ({"growth": 10**6}, "the network is too large"),
        ({"growth": "16"}, "growth is '16', expected a whole number"),
        ({"upsampling_channels": [8]}, "expected a list of 2"),
        ({"deconvolution_kernel": 4}, "deconvolution_kernel 4"),
        ({"block": "resnet"}, "block is 'resnet', expected one of rib, ib, rb"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"pattern": "cdr"}, "pattern is 'cdr'"),
        ({"gate_start": "ones"}, "gate_start is 'ones'"),
        ({"fusion": "average"}, "fusion is 'average'"),
    ],
)
def test_invalid_configurations_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RISTNConfig.from_dict(RISTNConfig().to_dict() | changes)


def test_the_global_skip_is_float32_with_half_precision_weights() -> None:
    model = RISTN(replace(TINY, global_skip=True)).eval().bfloat16()
    lr = noise(1, 1, 3, 6, 6)
    with torch.no_grad():
        sr = model(lr)
    assert sr.dtype == torch.float32
    assert torch.equal(sr[0], bicubic_upsample(lr[0]))
    assert math.isclose(float(sr.mean()), float(bicubic_upsample(lr[0]).mean()))


# One product for Eq. 6 to 8


@pytest.mark.parametrize(
    "config",
    [TINY, replace(TINY, gate_kernel=1, dense_input=True), replace(TINY, pattern="dc"), replace(TINY, fusion="none")],
)
@torch.no_grad()
def test_features_are_those_of_the_equations_one_after_the_other(config: RISTNConfig) -> None:
    model = make_random(config)
    rgb = noise(6, 3, 5, 7)  # three frames, a batch of two
    assert isinstance(model.mixing, Recurrent)
    spatial = model.spatial_features(rgb)
    expected = model.mixing.fusion(spatial, model.mixing.temporal(spatial, 3))
    torch.testing.assert_close(model.mixing(spatial, 3), expected)
