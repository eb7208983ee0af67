"""ConvLSTM cells against gates worked out by hand, layers against a plain implementation, stacks against Fig. 4."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.model.config import RISTNConfig, TemporalPattern
from ristn_cli.model.temporal import BidirectionalConvLSTM, TemporalComponent, lstm_step


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(channels: int, hidden: int, seed: int = 0) -> BidirectionalConvLSTM:
    """A layer with weights large enough that every gate moves."""
    layer = BidirectionalConvLSTM(channels, hidden)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = 0.4 * noise(*parameter.shape, seed=100 * seed + number)
    return layer.requires_grad_(False)


def test_a_step_by_known_gates() -> None:
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(-ln 3) = 1/4, tanh(ln 2) = 3/5.
    gates = torch.tensor([math.log(3), -math.log(3), 0.0, math.log(2)]).view(4, 1, 1, 1)
    hidden, cell = lstm_step(gates[:3], gates[3], torch.full((1, 1, 1), 2.0))
    assert cell.item() == pytest.approx(0.75 * 0.6 + 0.25 * 2.0)
    assert hidden.item() == pytest.approx(0.5 * math.tanh(0.95))
    hidden, cell = lstm_step(gates[:3], gates[3], None)
    assert cell.item() == pytest.approx(0.45)
    assert hidden.item() == pytest.approx(0.5 * math.tanh(0.45))


def test_cells_are_float32_in_every_precision() -> None:
    gates = noise(4, 2, 3, 3).bfloat16()
    hidden, cell = lstm_step(gates[:3], gates[3], None)
    assert (hidden.dtype, cell.dtype) == (torch.bfloat16, torch.float32)


def numpy_convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3x3 cross-correlation, zeros outside: (C, H, W) by (O, C, 3, 3) to (O, H, W), one product at a time."""
    height, width = x.shape[1:]
    y = np.zeros((len(kernel), height, width))
    for row in range(height):
        for column in range(width):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= row + dy < height and 0 <= column + dx < width:
                        y[:, row, column] += kernel[:, :, dy + 1, dx + 1] @ x[:, row + dy, column + dx]
    return y


def test_two_steps_against_gates_worked_out_in_numpy() -> None:
    layer = make_layer(channels=2, hidden=3)
    x = noise(2, 2, 4, 5)  # two frames, a batch of one

    def sigmoid(value: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-value))

    def expected(direction: int) -> list[np.ndarray]:
        of_direction = slice(12 * direction, 12 * (direction + 1))
        w, b, u = (
            p[of_direction].double().numpy()
            for p in (layer.input_gates.weight, layer.input_gates.bias, layer.hidden_gates.weight)
        )
        hidden, cell, outputs = np.zeros((3, 4, 5)), np.zeros((3, 4, 5)), []
        for frame in x.double().numpy()[:: -1 if direction else 1]:
            gates = numpy_convolve(frame, w) + b[:, None, None] + numpy_convolve(hidden, u)
            i, f, o, g = gates[:3], gates[3:6], gates[6:9], gates[9:]
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        return outputs[:: -1 if direction else 1]

    forward, backward = expected(0), expected(1)
    y = layer(x, 2).numpy()
    for t in range(2):
        np.testing.assert_allclose(y[t, :3], forward[t], atol=1e-6)
        np.testing.assert_allclose(y[t, 3:], backward[t], atol=1e-6)


def plain_bidirectional(layer: BidirectionalConvLSTM, frames: list[Tensor]) -> list[Tensor]:
    """The layer as a textbook would write it: two loops over the frames, one convolution a gate, states from zero."""
    h = layer.hidden
    halves = []
    for direction, order in enumerate([range(len(frames)), range(len(frames) - 1, -1, -1)]):
        hidden = cell = torch.zeros(len(frames[0]), h, *frames[0].shape[2:])
        outputs: dict[int, Tensor] = {}
        for t in order:
            sums = []
            for gate in range(4):
                rows = slice((4 * direction + gate) * h, (4 * direction + gate + 1) * h)
                assert layer.input_gates.bias is not None
                from_input = F.conv2d(
                    frames[t], layer.input_gates.weight[rows], layer.input_gates.bias[rows], padding=1
                )
                sums.append(from_input + F.conv2d(hidden, layer.hidden_gates.weight[rows], padding=1))
            i, f, o = (sums[gate].sigmoid() for gate in range(3))
            cell = f * cell + i * sums[3].tanh()
            hidden = o * cell.tanh()
            outputs[t] = hidden
        halves.append([outputs[t] for t in range(len(frames))])
    return [torch.cat(pair, dim=1) for pair in zip(*halves, strict=True)]


@pytest.mark.parametrize(("frames", "batch"), [(1, 1), (2, 3), (5, 2)])
def test_a_layer_equals_two_plain_loops(frames: int, batch: int) -> None:
    layer = make_layer(channels=3, hidden=4)
    x = noise(frames * batch, 3, 6, 5)
    expected = torch.cat(plain_bidirectional(layer, list(x.split(batch))))
    torch.testing.assert_close(layer(x, frames), expected, rtol=0, atol=1e-5)


def test_swapped_directions_over_reversed_time_give_reversed_swapped_output() -> None:
    layer = make_layer(channels=3, hidden=2)
    swapped = make_layer(channels=3, hidden=2, seed=1)
    for mine, other in zip(swapped.parameters(), layer.parameters(), strict=True):
        mine.data = other.data.roll(8, dims=0)  # 4 gates x 2 hidden channels a direction
    x = noise(4, 3, 5, 5)
    y = layer(x, 4)
    mirrored = swapped(x.flip(0), 4).flip(0)
    torch.testing.assert_close(torch.cat([mirrored[:, 2:], mirrored[:, :2]], dim=1), y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("changed", [0, 2, 4])
def test_each_direction_is_causal(changed: int) -> None:
    layer = make_layer(channels=3, hidden=2)
    x = noise(5, 3, 4, 4)
    other = x.clone()
    other[changed] += 1
    difference = (layer(other, 5) - layer(x, 5)).abs().amax(dim=(2, 3))
    forward, backward = difference[:, :2].amax(dim=1), difference[:, 2:].amax(dim=1)
    for t in range(5):
        assert (forward[t] > 0) == (t >= changed)
        assert (backward[t] > 0) == (t <= changed)


def test_batch_elements_are_independent() -> None:
    layer = make_layer(channels=2, hidden=2)
    x = noise(6, 2, 4, 4)  # three frames of two
    alone = layer(x[1::2], 3)
    torch.testing.assert_close(layer(x, 3)[1::2], alone, rtol=0, atol=1e-6)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@torch.no_grad()
def test_a_delay_line_holds_the_frame_before_in_its_second_half() -> None:
    torch.manual_seed(0)
    hidden, half, frames = 8, 4, 5
    layer = BidirectionalConvLSTM(6, hidden, start="delay_line")
    y = layer(noise(frames, 6, 12, 12), frames)
    forward, backward = y[:, :hidden], y[:, hidden:]
    for t in range(1, frames):
        assert correlation(forward[t, half:], forward[t - 1, :half]) > 0.8
        assert abs(correlation(forward[t, half:], forward[t, :half])) < 0.3
    for t in range(frames - 1):
        assert correlation(backward[t, half:], backward[t + 1, :half]) > 0.8
        assert abs(correlation(backward[t, half:], backward[t, :half])) < 0.3


@torch.no_grad()
def test_a_delay_line_without_its_random_share_by_closed_form() -> None:
    layer = BidirectionalConvLSTM(1, 2, start="delay_line")
    kernel = layer.hidden_gates.weight.view(2, 4, 2, 2, 3, 3)
    random_share = kernel.clone()
    random_share[:, 3, 1, 0, 1, 1] -= 1
    assert random_share.abs().max() <= 0.1 / math.sqrt(2 * 9) + 1e-6  # a tenth of what PyTorch starts with
    kernel -= random_share
    layer.input_gates.weight.zero_()
    layer.input_gates.weight[3 * 2, 0, 1, 1] = 1  # the forward candidate of the first channel takes the pixel itself
    x = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)
    y = layer(x, 2)
    gate_open = 1 / (1 + math.exp(-2))
    first = gate_open * math.tanh(gate_open * math.tanh(0.5))
    assert y[0, 0].item() == pytest.approx(first, abs=1e-6)
    assert y[1, 1].item() == pytest.approx(gate_open * math.tanh(gate_open * math.tanh(first)), abs=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("pattern", ["c", "rc", "dc", "rdc"])
@torch.no_grad()
def test_connections_of_figure_4(pattern: TemporalPattern, norm: str, layers: int) -> None:
    torch.manual_seed(layers)
    channels, growth, frames = 5, 3, 2
    values = {"lstm_layers": layers, "growth": growth, "pattern": pattern, "norm": norm}
    component = TemporalComponent(RISTNConfig.from_dict(values), channels).eval()
    read: list[Tensor] = []
    given: list[Tensor] = []

    def record(_: torch.nn.Module, inputs: tuple[Tensor, int], output: Tensor) -> None:
        read.append(inputs[0])
        given.append(output)

    for layer in component.layers:
        layer.register_forward_hook(record)
    spatial = noise(2 * frames, channels, 4, 4)
    y = component(spatial, frames)

    dense, residual = pattern in ("dc", "rdc"), pattern in ("rc", "rdc")
    out_channels = 2 * growth * layers if dense else 2 * growth
    assert component.out_channels == y.shape[1] == out_channels
    x_in = F.relu(spatial / math.sqrt(1 + 1e-5) if norm == "batch" else spatial)  # fresh running statistics: 0 and 1
    assert isinstance(component.convert, torch.nn.Conv2d) == residual
    if isinstance(component.convert, torch.nn.Conv2d):
        w = component.convert.weight[:, :, 0, 0]
        assert component.convert.bias is not None
        entering = torch.einsum("oc,nchw->nohw", w, x_in) + component.convert.bias[:, None, None]
    else:
        entering = x_in
    torch.testing.assert_close(read[0], entering)
    for k in range(1, layers):
        torch.testing.assert_close(read[k], torch.cat(given[:k], dim=1) if dense else given[k - 1], rtol=0, atol=0)
    assert [h.shape[1] for h in given] == [2 * growth] * layers
    hierarchy = torch.cat(given, dim=1) if dense else given[-1]
    torch.testing.assert_close(y, hierarchy + entering if residual else hierarchy)


@pytest.mark.parametrize(
    ("pattern", "norm_and_conversion", "widths"),
    [
        ("c", 2 * 256, [256] + [32] * 9),
        ("rc", 2 * 256 + 257 * 32, [32] * 10),
        ("dc", 2 * 256, [256, *range(32, 320, 32)]),
        ("rdc", 2 * 256 + 257 * 320, [320, *range(32, 320, 32)]),
    ],
)
def test_parameters_at_the_papers_widths(pattern: TemporalPattern, norm_and_conversion: int, widths: list[int]) -> None:
    with torch.device("meta"):
        component = TemporalComponent(RISTNConfig(pattern=pattern), 256)
    # Two directions of four gates of 16 channels, 3x3: over what is read, with biases, and over the hidden values.
    expected = sum(2 * 4 * 16 * (9 * width + 1) + 2 * 4 * 16 * 9 * 16 for width in widths) + norm_and_conversion
    assert sum(parameter.numel() for parameter in component.parameters()) == expected
