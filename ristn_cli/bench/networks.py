"""The networks to measure: released weights, or random weights of a named configuration, which take the same time."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ristn_cli.bench.results import BenchError
from ristn_cli.model import CONFIGS, RISTN, RISTNConfig
from ristn_cli.weights import RELEASES, find_weights, load_weights

NAMED: dict[str, RISTNConfig] = CONFIGS | {"paper-2x2": replace(CONFIGS["paper"], deconvolution_kernel=2)}
"""Configurations by name. `paper-2x2` has the 2x2 deconvolutions that match the paper's parameter count."""


@dataclass(frozen=True)
class Network:
    """A named network; `weights` as in `results.Case`."""

    name: str
    weights: str
    model: RISTN


def open_network(name: str) -> Network:
    """Load released weights or a `.safetensors` file, or make random weights of a named configuration.

    Raises:
        BenchError: the name is unknown.
        WeightsError: the file is not a weights file of ristn.
    """
    if name in RELEASES:
        return Network(name, "released", load_weights(find_weights(name)))
    if name in NAMED:
        return Network(name, "random", random_network(NAMED[name]))
    if name.endswith(".safetensors"):
        return Network(Path(name).stem, "file", load_weights(Path(name)))
    known = ", ".join(sorted({*RELEASES, *NAMED}))
    raise BenchError(f"unknown network {name!r}: expected one of {known}, or a .safetensors file")


def random_network(config: RISTNConfig) -> RISTN:
    """Return a network with reproducible random weights. Scaled residuals keep its values in range."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        model = RISTN(config).eval()
    finally:
        torch.random.set_rng_state(state)
    with torch.no_grad():
        for block in (model.spatial, model.refine):
            for parameter in block.parameters():
                if parameter.dim() == 4:
                    parameter.mul_(0.5)
    return model
