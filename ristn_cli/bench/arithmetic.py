"""Counts the floating-point operations (FLOP) of a finished frame on the `meta` device, which computes nothing."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ristn_cli.bench.results import Arithmetic
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.model import RISTN, RISTNConfig, count_macs
from ristn_cli.model.folded import inference_form


def count_window(model: RISTN, frames: int, kept: int, height: int, width: int) -> int:
    """Return the FLOP of convolutions and matrix products of one window of `frames` x `height` x `width`.

    PyTorch counts them in the form of the network that the engine runs. The first frame of each direction has no hidden
    state, so the hidden part of its gates is not computed.
    """
    shapes = inference_form(model).to("meta")
    lr = torch.empty(1, frames, 3, height, width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(lr, slice(0, kept))
    return int(counter.get_total_flops())


def count_arithmetic(model: RISTN, tiling: Tiling, width: int, height: int, *, frames: int, kept: int) -> Arithmetic:
    """Return the FLOP per finished frame of the network and of the engine, whose windows of `frames` keep `kept`
    frames.
    """
    config: RISTNConfig = model.config
    rows = plan_spans(height, tiling.tile, tiling.overlap)
    columns = plan_spans(width, tiling.tile, tiling.overlap)
    window = count_window(model, frames, kept, rows[0].size, columns[0].size) * len(rows) * len(columns)
    return Arithmetic(network_flops=2 * count_macs(config) * width * height, executed_flops=round(window / kept))
