"""Temporal component: bidirectional convolutional LSTMs in the paper's four connection patterns (Fig. 4).

Frames are time-major: a tensor (T*B, C, H, W) holds frame t of batch element b at t*B + b.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ristn_cli.model.spatial import NormKind

TemporalPattern = Literal["c", "rc", "dc", "rdc"]
GateStart = Literal["uniform", "delay_line"]

GATES = 4
"""Input, forget and output gate, and the candidate, in this order."""


def lstm_step(gates: Tensor, candidate: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step of LSTM cells from the sums that enter their gates and their candidates.

    Args:
        gates: (..., 3, C, H, W), before the sigmoid: input, forget, output.
        candidate: (..., C, H, W), before the tanh.
        cell: (..., C, H, W) in float32, or None for cells at rest.

    Returns:
        The new hidden values, in the dtype of `gates`, and the new cells in float32.
    """
    i, f, o = gates.sigmoid().unbind(-4)
    new_cell = i.float() * candidate.tanh().float()
    if cell is not None:
        new_cell = new_cell + f.float() * cell
    return o * new_cell.tanh().to(gates.dtype), new_cell


class BidirectionalConvLSTM(nn.Module):
    """Two convolutional LSTMs, one forward and one backward in time, joined as [forward, backward].

    The input's share of all gates does not depend on the recurrence: it is computed over all frames and both
    directions at once. Only the hidden share is sequential, and both directions go through it as one grouped
    convolution.

    With a `gate_kernel` of 3, the paper's, one 3x3 convolution makes gates and candidates. With 1 the three gates have
    1x1 convolutions and only the candidate reads a neighbourhood: half of the arithmetic for as many channels.
    """

    def __init__(self, channels: int, hidden: int, *, gate_kernel: int = 3, start: GateStart = "uniform") -> None:
        super().__init__()
        self.hidden = hidden
        gates = GATES if gate_kernel == 3 else GATES - 1
        padding = gate_kernel // 2
        self.input_gates = nn.Conv2d(channels, 2 * gates * hidden, gate_kernel, padding=padding)
        self.hidden_gates = nn.Conv2d(
            2 * hidden, 2 * gates * hidden, gate_kernel, padding=padding, groups=2, bias=False
        )
        self.input_candidate: nn.Conv2d | None = None
        self.hidden_candidate: nn.Conv2d | None = None
        if gate_kernel == 1:
            self.input_candidate = nn.Conv2d(channels, 2 * hidden, 3, padding=1)
            self.hidden_candidate = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2, bias=False)
        if start == "delay_line":
            self._start_as_delay_line()

    @torch.no_grad()
    def _start_as_delay_line(self) -> None:
        """Half of each direction's channels take the input, the other half what the first half held a frame before.

        The input is taken through an orthogonal projection, at full strength; input and output gates are open, forget
        gates closed. So the neighbours' features stand before the next layer from the first step of training, where
        gates started at random learn single-image upscaling and never look aside.
        """
        half = self.hidden // 2
        assert self.input_gates.bias is not None
        biases = self.input_gates.bias.view(2, -1, self.hidden)
        biases[:, :3] = torch.tensor([2.0, -2.0, 2.0])[:, None]
        self.hidden_gates.weight.mul_(0.1)
        if self.input_candidate is None or self.hidden_candidate is None:
            biases[:, 3] = 0
            candidate = self.input_gates.weight.view(2, GATES, self.hidden, -1, 3, 3)[:, 3]
            recurrent = self.hidden_gates.weight.view(2, GATES, self.hidden, self.hidden, 3, 3)[:, 3]
        else:
            assert self.input_candidate.bias is not None
            self.input_candidate.bias.zero_()
            candidate = self.input_candidate.weight.view(2, self.hidden, -1, 3, 3)
            recurrent = self.hidden_candidate.weight.mul_(0.1).view(2, self.hidden, self.hidden, 3, 3)
        candidate.mul_(0.1)
        projection = torch.empty(2 * half, candidate.shape[2])
        nn.init.orthogonal_(projection)
        candidate[:, :half, :, 1, 1] += projection.view(2, half, candidate.shape[2])
        for channel in range(half, self.hidden):
            recurrent[:, channel, channel - half, 1, 1] += 1.0

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(T*B, C, H, W) to (T*B, 2*hidden, H, W): the forward direction's channels, then the backward's."""
        gates, candidates = self._in_time_order(self.input_gates(x), frames), None
        if self.input_candidate is not None:
            candidates = self._in_time_order(self.input_candidate(x), frames)
        hidden: Tensor | None = None
        cell: Tensor | None = None
        outputs = []
        for step in range(frames):
            gate = gates[step]
            candidate = None if candidates is None else candidates[step]
            if hidden is not None:
                gate = gate + self.hidden_gates(hidden).view_as(gate)
                if candidate is not None and self.hidden_candidate is not None:
                    candidate = candidate + self.hidden_candidate(hidden).view_as(candidate)
            if candidate is None:
                gate, candidate = gate[:, :, :3], gate[:, :, 3:]
            joined, cell = lstm_step(gate, candidate[:, :, 0], cell)  # (B, 2, hidden, H, W)
            hidden = joined.flatten(1, 2)
            outputs.append(joined)
        return torch.cat([torch.cat([outputs[t][:, 0], outputs[frames - 1 - t][:, 1]], dim=1) for t in range(frames)])

    def _in_time_order(self, shares: Tensor, frames: int) -> list[Tensor]:
        """What both directions read in each step, (B, 2, gates, hidden, H, W), from (T*B, 2*gates*hidden, H, W)."""
        per_frame = shares.unflatten(1, (2, -1, self.hidden)).unflatten(0, (frames, -1))  # type: ignore[no-untyped-call]
        forward, backward = per_frame.unbind(2)
        return [torch.stack([forward[t], backward[frames - 1 - t]], dim=1) for t in range(frames)]


class TemporalComponent(nn.Module):
    """A stack of bidirectional ConvLSTM layers, connected as one of Fig. 4's four patterns.

    | pattern | layer k reads    | output                       |
    |---------|------------------|------------------------------|
    | `c`     | H(k-1)           | H(n-1)                       |
    | `rc`    | H(k-1)           | W * Xin + H(n-1)             |
    | `dc`    | [H0 .. H(k-1)]   | [H0 .. H(n-1)]               |
    | `rdc`   | [H0 .. H(k-1)]   | W * Xin + [H0 .. H(n-1)] (Eq. 6) |

    Layer 0 reads what enters the recurrence: W * Xin where W exists (Eq. 6's 1x1 convolution, which gives the residual
    patterns as many channels going in as coming out), else the input itself. Xin is BN and ReLU of the spatial
    features. With `dense_input` every layer of a dense pattern reads [Xin, H0 .. H(k-1)].
    """

    def __init__(
        self,
        channels: int,
        *,
        layers: int,
        growth: int,
        pattern: TemporalPattern,
        norm: NormKind,
        start: GateStart,
        gate_kernel: int = 3,
        dense_input: bool = False,
    ) -> None:
        super().__init__()
        self.dense = pattern in ("dc", "rdc")
        self.dense_input = dense_input
        self.out_channels = 2 * growth * (layers if self.dense else 1)
        self.before = nn.Sequential(*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU())
        self.convert = nn.Conv2d(channels, self.out_channels, 1) if pattern in ("rc", "rdc") else None
        if self.convert is not None and start == "delay_line":
            nn.init.orthogonal_(self.convert.weight)
        entering = channels if self.convert is None or dense_input else self.out_channels
        self.layers = nn.ModuleList()
        for k in range(layers):
            earlier = 2 * growth * (k if self.dense else min(k, 1))
            read = entering + earlier if dense_input or k == 0 else earlier
            self.layers.append(BidirectionalConvLSTM(read, growth, gate_kernel=gate_kernel, start=start))

    def forward(self, spatial: Tensor, frames: int) -> Tensor:
        """(T*B, C, H, W) to (T*B, `out_channels`, H, W)."""
        x, hierarchy = self.read(spatial, frames)
        return hierarchy if self.convert is None else hierarchy + self.convert(x)

    def read(self, spatial: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Xin (T*B, C, H, W) and the hierarchy [H0 .. H(n-1)], or H(n-1), before W * Xin is added to it."""
        x: Tensor = self.before(spatial)
        entering = x if self.convert is None or self.dense_input else self.convert(x)
        outputs: list[Tensor] = [entering] if self.dense_input else []
        for layer in self.layers:
            read = entering if not outputs else torch.cat(outputs, dim=1) if self.dense else outputs[-1]
            outputs.append(layer(read, frames))
        if self.dense_input:
            outputs = outputs[1:]
        return x, torch.cat(outputs, dim=1) if self.dense else outputs[-1]
