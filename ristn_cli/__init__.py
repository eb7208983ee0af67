"""ristn: upscale video 4x with RISTN, a Residual Invertible Spatio-Temporal Network."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ristn_cli.inference.device import choose_backend
    from ristn_cli.inference.job import upscale_video
    from ristn_cli.inference.memory import Tiling
    from ristn_cli.inference.plan import UpscaleOptions
    from ristn_cli.inference.upscaler import Upscaler
    from ristn_cli.model import RISTN, RISTNConfig
    from ristn_cli.weights import find_weights, load_weights

_HOMES = {
    "RISTN": "ristn_cli.model",
    "RISTNConfig": "ristn_cli.model",
    "Tiling": "ristn_cli.inference.memory",
    "UpscaleOptions": "ristn_cli.inference.plan",
    "Upscaler": "ristn_cli.inference.upscaler",
    "choose_backend": "ristn_cli.inference.device",
    "find_weights": "ristn_cli.weights",
    "load_weights": "ristn_cli.weights",
    "upscale_video": "ristn_cli.inference.job",
}

__all__ = [
    "RISTN",
    "RISTNConfig",
    "Tiling",
    "UpscaleOptions",
    "Upscaler",
    "choose_backend",
    "find_weights",
    "load_weights",
    "upscale_video",
]


def __getattr__(name: str) -> Any:
    """Public names on first use: importing the package, as `ristn --help` does, must not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
