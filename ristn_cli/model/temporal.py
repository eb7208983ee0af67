"""Temporal component: bidirectional convolutional LSTMs, connected in one of the four patterns of Fig. 4.

Tensors (T*B, C, H, W) are time-major: frame t of batch element b is at index t*B + b.
"""

import torch
from torch import Tensor, nn

from ristn_cli.model.config import GateStart, RISTNConfig
from ristn_cli.model.spatial import norm_and_relu

GATES = 4
"""Input gate i, forget gate f, output gate o and cell input g. Tensors contain them in this order."""


def lstm_step(ifo: Tensor, g: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute one LSTM step from the pre-activations of the gates.

    The cells have no peepholes: the gates do not read the cell values. The paper gives no equations; the work it cites
    for bidirectional layers (Graves et al., 2013) does use peepholes.

    Args:
        ifo: (..., 3, C, H, W): i, f and o before the sigmoid.
        g: (..., C, H, W): cell input before the tanh.
        cell: (..., C, H, W) in float32, or None before the first frame.

    Returns:
        The new hidden values in the dtype of `ifo`, and the new cells in float32.
    """
    i, f, o = ifo.sigmoid().unbind(-4)
    new_cell = i.float() * g.tanh().float()
    if cell is not None:
        new_cell = new_cell + f.float() * cell
    return o * new_cell.tanh().to(ifo.dtype), new_cell


class BidirectionalConvLSTM(nn.Module):
    """Two convolutional LSTMs, one forward and one backward in time. The output is [forward, backward].

    The convolutions over the input do not depend on the recurrence, so they run once for all frames and both
    directions. Only the convolutions over the hidden values are sequential. A grouped convolution computes both
    directions.

    With a `gate_kernel` of 3, as in the paper, one 3x3 convolution computes i, f, o and g. With 1, i, f and o have 1x1
    convolutions and only g has 3x3 ones (`input_candidate` and `hidden_candidate`): half the arithmetic for the same
    number of channels.
    """

    def __init__(self, channels: int, hidden: int, *, gate_kernel: int = 3, start: GateStart = "uniform") -> None:
        super().__init__()
        self.hidden = hidden
        self.gate_kernel = gate_kernel
        gates = GATES if gate_kernel == 3 else GATES - 1
        padding = gate_kernel // 2
        self.input_gates = nn.Conv2d(channels, 2 * gates * hidden, gate_kernel, padding=padding)
        self.hidden_gates = nn.Conv2d(
            2 * hidden, 2 * gates * hidden, gate_kernel, padding=padding, groups=2, bias=False
        )
        if gate_kernel == 1:
            self.input_candidate = nn.Conv2d(channels, 2 * hidden, 3, padding=1)
            self.hidden_candidate = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2, bias=False)
        if start == "delay_line":
            self._start_as_delay_line()

    def convolutions(self) -> list[tuple[nn.Conv2d, nn.Conv2d]]:
        """Return pairs of convolutions over input and hidden values: one for i, f, o, g, or one for i, f, o and one for
        g.

        The output channels are ordered (direction, gate, channel): g is the last gate of the last pair.
        """
        pairs = [(self.input_gates, self.hidden_gates)]
        return pairs if self.gate_kernel == 3 else [*pairs, (self.input_candidate, self.hidden_candidate)]

    @torch.no_grad()
    def _start_as_delay_line(self) -> None:
        """Initialize the layer so that it passes on the current and the previous frame.

        In each direction, half of the channels receive an orthogonal projection of the input; the other half receive
        the values of the first half from the previous frame. i and o start open, f closed. The next layer thus reads
        neighbouring frames from the first training step. With random gates, the network first learns single-image
        upscaling and then ignores the neighbouring frames.
        """
        half = self.hidden // 2
        for _, of_hidden in self.convolutions():
            of_hidden.weight.mul_(0.1)
        of_input, of_hidden = self.convolutions()[-1]
        assert self.input_gates.bias is not None and of_input.bias is not None
        self.input_gates.bias.view(2, -1, self.hidden)[:, :3] = torch.tensor([2.0, -2.0, 2.0])[:, None]
        of_input.bias.view(2, -1, self.hidden)[:, -1] = 0
        g_of_input, g_of_hidden = (
            each.weight.view(2, -1, self.hidden, *each.weight.shape[1:])[:, -1] for each in (of_input, of_hidden)
        )  # (2, hidden, C, 3, 3)
        g_of_input.mul_(0.1)
        projection = torch.empty(2 * half, g_of_input.shape[2])
        nn.init.orthogonal_(projection)
        g_of_input[:, :half, :, 1, 1] += projection.view(2, half, g_of_input.shape[2])
        for channel in range(half, self.hidden):
            g_of_hidden[:, channel, channel - half, 1, 1] += 1.0

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Map (T*B, C, H, W) to (T*B, 2*hidden, H, W): channels of the forward direction, then of the backward
        direction.
        """
        pairs = self.convolutions()
        shares = [self._in_time_order(of_input(x), frames) for of_input, _ in pairs]
        hidden: Tensor | None = None
        cell: Tensor | None = None
        outputs = []
        for step in range(frames):
            sums = [share[step] for share in shares]
            if hidden is not None:
                sums = [
                    each + of_hidden(hidden).view_as(each) for each, (_, of_hidden) in zip(sums, pairs, strict=True)
                ]
            joined, cell = lstm_step(sums[0][:, :, :3], sums[-1][:, :, -1], cell)  # (B, 2, hidden, H, W)
            hidden = joined.flatten(1, 2)
            outputs.append(joined)
        return torch.cat([torch.cat([outputs[t][:, 0], outputs[frames - 1 - t][:, 1]], dim=1) for t in range(frames)])

    def _in_time_order(self, shares: Tensor, frames: int) -> list[Tensor]:
        """Split (T*B, 2*gates*hidden, H, W) into the inputs (B, 2, gates, hidden, H, W) of each time step.

        Step t contains frame t for the forward and frame T-1-t for the backward direction.
        """
        per_frame = shares.unflatten(1, (2, -1, self.hidden)).unflatten(0, (frames, -1))  # type: ignore[no-untyped-call]
        forward, backward = per_frame.unbind(2)
        return [torch.stack([forward[t], backward[frames - 1 - t]], dim=1) for t in range(frames)]


class TemporalComponent(nn.Module):
    """A stack of bidirectional ConvLSTM layers in one of the four patterns of Fig. 4.

    | pattern | input of layer k | output                           |
    |---------|------------------|----------------------------------|
    | `c`     | H(k-1)           | H(n-1)                           |
    | `rc`    | H(k-1)           | W * Xin + H(n-1)                 |
    | `dc`    | [H0 .. H(k-1)]   | [H0 .. H(n-1)]                   |
    | `rdc`   | [H0 .. H(k-1)]   | W * Xin + [H0 .. H(n-1)] (Eq. 6) |

    W is the 1x1 convolution of Eq. 6. It gives the residual patterns as many input as output channels. Layer 0 reads W
    * Xin in these patterns and Xin in the others. With `dense_input`, every layer of a dense pattern reads [Xin, H0 ..
    H(k-1)].

    Xin is batch normalization and ReLU of the spatial features. The paper does not say so, but the preceding blocks end
    in sums without an activation, so this keeps their pre-activation order.
    """

    def __init__(self, config: RISTNConfig, channels: int) -> None:
        super().__init__()
        width = 2 * config.growth
        self.dense = config.pattern in ("dc", "rdc")
        self.is_residual = config.pattern in ("rc", "rdc")
        self.dense_input = config.dense_input
        self.out_channels = width * (config.lstm_layers if self.dense else 1)
        self.before = nn.Sequential(*norm_and_relu(channels, config.norm))
        self.convert: nn.Module = nn.Identity()
        if self.is_residual:
            self.convert = nn.Conv2d(channels, self.out_channels, 1)
            if config.gate_start == "delay_line":
                nn.init.orthogonal_(self.convert.weight)
        entering = self.out_channels if self.is_residual and not self.dense_input else channels
        self.layers = nn.ModuleList()
        for k in range(config.lstm_layers):
            earlier = width * (k if self.dense else min(k, 1))
            read = entering + earlier if self.dense_input or k == 0 else earlier
            self.layers.append(
                BidirectionalConvLSTM(read, config.growth, gate_kernel=config.gate_kernel, start=config.gate_start)
            )

    def forward(self, spatial: Tensor, frames: int) -> Tensor:
        """Map (T*B, C, H, W) to (T*B, `out_channels`, H, W)."""
        x, hierarchy = self.read(spatial, frames)
        return hierarchy + self.convert(x) if self.is_residual else hierarchy

    def read(self, spatial: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Return Xin (T*B, C, H, W), and [H0 .. H(n-1)] or H(n-1) without the residual W * Xin."""
        x: Tensor = self.before(spatial)
        entering = x if self.dense_input else self.convert(x)
        outputs: list[Tensor] = [entering] if self.dense_input else []
        for layer in self.layers:
            read = entering if not outputs else torch.cat(outputs, dim=1) if self.dense else outputs[-1]
            outputs.append(layer(read, frames))
        if self.dense_input:
            outputs = outputs[1:]
        return x, torch.cat(outputs, dim=1) if self.dense else outputs[-1]
