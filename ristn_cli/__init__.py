"""ristn: upscale video 4x with RISTN, a Residual Invertible Spatio-Temporal Network."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ristn_cli.engine.device import choose_backend
    from ristn_cli.engine.memory import Tiling
    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.evaluation.dataset import plan_clips
    from ristn_cli.evaluation.methods import Interpolation, Network, Outputs
    from ristn_cli.evaluation.metrics import psnr_y, ssim_y
    from ristn_cli.evaluation.scoring import Protocol, evaluate_clip
    from ristn_cli.job.events import PartFinished, Planned, Warned
    from ristn_cli.job.options import RunOptions, UpscaleOptions
    from ristn_cli.job.progress import Progress
    from ristn_cli.job.run import upscale_video
    from ristn_cli.model import RISTN, RISTNConfig
    from ristn_cli.weights import find_weights, load_weights

_HOMES = {
    "Interpolation": "ristn_cli.evaluation.methods",
    "Network": "ristn_cli.evaluation.methods",
    "Outputs": "ristn_cli.evaluation.methods",
    "PartFinished": "ristn_cli.job.events",
    "Planned": "ristn_cli.job.events",
    "Progress": "ristn_cli.job.progress",
    "Protocol": "ristn_cli.evaluation.scoring",
    "RISTN": "ristn_cli.model",
    "RISTNConfig": "ristn_cli.model",
    "RunOptions": "ristn_cli.job.options",
    "Tiling": "ristn_cli.engine.memory",
    "UpscaleOptions": "ristn_cli.job.options",
    "Upscaler": "ristn_cli.engine.upscaler",
    "Warned": "ristn_cli.job.events",
    "choose_backend": "ristn_cli.engine.device",
    "evaluate_clip": "ristn_cli.evaluation.scoring",
    "find_weights": "ristn_cli.weights",
    "load_weights": "ristn_cli.weights",
    "plan_clips": "ristn_cli.evaluation.dataset",
    "psnr_y": "ristn_cli.evaluation.metrics",
    "ssim_y": "ristn_cli.evaluation.metrics",
    "upscale_video": "ristn_cli.job.run",
}

__all__ = [
    "RISTN",
    "Interpolation",
    "Network",
    "Outputs",
    "PartFinished",
    "Planned",
    "Progress",
    "Protocol",
    "RISTNConfig",
    "RunOptions",
    "Tiling",
    "UpscaleOptions",
    "Upscaler",
    "Warned",
    "choose_backend",
    "evaluate_clip",
    "find_weights",
    "load_weights",
    "plan_clips",
    "psnr_y",
    "ssim_y",
    "upscale_video",
]


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `ristn --help` does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
