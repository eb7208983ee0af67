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


def lstm_step(gates: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step of LSTM cells from the sums that enter their gates.

    Args:
        gates: (..., 4, C, H, W), before their non-linearities: input, forget, output, candidate.
        cell: (..., C, H, W) in float32, or None for cells at rest.

    Returns:
        The new hidden values, in the dtype of `gates`, and the new cells in float32.
    """
    admit, forget, release, candidate = gates.unbind(-4)
    new_cell = torch.sigmoid(admit).float() * torch.tanh(candidate).float()
    if cell is not None:
        new_cell = new_cell + torch.sigmoid(forget).float() * cell
    return torch.sigmoid(release) * torch.tanh(new_cell).to(gates.dtype), new_cell


class BidirectionalConvLSTM(nn.Module):
    """Two convolutional LSTMs with 3x3 kernels, one forward and one backward in time, joined as [forward, backward].

    The input's share of all gates does not depend on the recurrence: it is one convolution over all frames and both
    directions. Only the hidden share is sequential, and both directions go through it as one grouped convolution.
    """

    def __init__(self, channels: int, hidden: int, *, start: GateStart = "uniform") -> None:
        super().__init__()
        self.hidden = hidden
        self.input_gates = nn.Conv2d(channels, 2 * GATES * hidden, 3, padding=1)
        self.hidden_gates = nn.Conv2d(2 * hidden, 2 * GATES * hidden, 3, padding=1, groups=2, bias=False)
        if start == "delay_line":
            self._start_as_delay_line()

    @torch.no_grad()
    def _start_as_delay_line(self) -> None:
        """Half of each direction's channels take the input, the other half what the first half held a frame before.

        The input is taken through an orthogonal projection, at full strength; input and output gates are open, forget
        gates closed. So the neighbours' features stand before the next layer from the first step of training, where
        gates started at random learn single-image upscaling and never look aside.
        """
        assert self.input_gates.bias is not None
        half = self.hidden // 2
        biases = torch.tensor([2.0, -2.0, 2.0, 0.0]).repeat_interleave(self.hidden)
        self.input_gates.bias.copy_(biases.repeat(2))
        recurrent = self.hidden_gates.weight.view(2, GATES, self.hidden, self.hidden, 3, 3)
        recurrent.mul_(0.1)
        candidate = self.input_gates.weight.view(2, GATES, self.hidden, -1, 3, 3)[:, 3]
        candidate.mul_(0.1)
        projection = torch.empty(2 * half, candidate.shape[2])
        nn.init.orthogonal_(projection)
        candidate[:, :half, :, 1, 1] += projection.view(2, half, candidate.shape[2])
        for channel in range(half, self.hidden):
            recurrent[:, 3, channel, channel - half, 1, 1] += 1.0

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(T*B, C, H, W) to (T*B, 2*hidden, H, W): the forward direction's channels, then the backward's."""
        gates = self.input_gates(x).unflatten(0, (frames, -1)).unflatten(2, (2, GATES, self.hidden))
        forward, backward = gates.unbind(2)  # (T, B, 4, hidden, H, W) each
        hidden: Tensor | None = None
        cell: Tensor | None = None
        outputs = []
        for step in range(frames):
            both = torch.stack([forward[step], backward[frames - 1 - step]], dim=1)  # (B, 2, 4, hidden, H, W)
            if hidden is not None:
                both = both + self.hidden_gates(hidden).view_as(both)
            joined, cell = lstm_step(both, cell)  # (B, 2, hidden, H, W)
            hidden = joined.flatten(1, 2)
            outputs.append(joined)
        return torch.cat([torch.cat([outputs[t][:, 0], outputs[frames - 1 - t][:, 1]], dim=1) for t in range(frames)])


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
    features.
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
    ) -> None:
        super().__init__()
        self.dense = pattern in ("dc", "rdc")
        self.out_channels = 2 * growth * (layers if self.dense else 1)
        self.before = nn.Sequential(*([nn.BatchNorm2d(channels)] if norm == "batch" else []), nn.ReLU())
        self.convert = nn.Conv2d(channels, self.out_channels, 1) if pattern in ("rc", "rdc") else None
        if self.convert is not None and start == "delay_line":
            nn.init.orthogonal_(self.convert.weight)
        entering = self.out_channels if self.convert is not None else channels
        self.layers = nn.ModuleList(
            BidirectionalConvLSTM(entering if k == 0 else 2 * growth * (k if self.dense else 1), growth, start=start)
            for k in range(layers)
        )

    def forward(self, spatial: Tensor, frames: int) -> Tensor:
        """(T*B, C, H, W) to (T*B, `out_channels`, H, W)."""
        x = self.before(spatial)
        entering = x if self.convert is None else self.convert(x)
        outputs: list[Tensor] = []
        for layer in self.layers:
            read = entering if not outputs else torch.cat(outputs, dim=1) if self.dense else outputs[-1]
            outputs.append(layer(read, frames))
        hierarchy = torch.cat(outputs, dim=1) if self.dense else outputs[-1]
        return hierarchy if self.convert is None else hierarchy + entering
