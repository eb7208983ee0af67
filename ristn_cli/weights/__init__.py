"""Released weights: their records, the choice for a source, finding them, and reading and writing weights files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ristn_cli.weights.choice import CLEAN_MODEL, DEFAULT_DETAIL, ModelChoice, choose_detail, choose_model
from ristn_cli.weights.finding import (
    bundled_folder,
    cached_file,
    file_sha256,
    find_weights,
    locate,
    obtain,
    weights_file,
)
from ristn_cli.weights.hub import is_offline
from ristn_cli.weights.records import DIAL, RELEASES, REPLACED, Release, WeightsError, find_release

if TYPE_CHECKING:
    from ristn_cli.weights.files import load_weights, read_metadata, save_weights
    from ristn_cli.weights.interpolation import interpolate, load_choice

__all__ = [
    "CLEAN_MODEL",
    "DEFAULT_DETAIL",
    "DIAL",
    "RELEASES",
    "REPLACED",
    "ModelChoice",
    "Release",
    "WeightsError",
    "bundled_folder",
    "cached_file",
    "choose_detail",
    "choose_model",
    "file_sha256",
    "find_release",
    "find_weights",
    "interpolate",
    "is_offline",
    "load_choice",
    "load_weights",
    "locate",
    "obtain",
    "read_metadata",
    "save_weights",
    "weights_file",
]

_LAZY = {"files": ("load_weights", "read_metadata", "save_weights"), "interpolation": ("interpolate", "load_choice")}


def __getattr__(name: str) -> Any:
    """What reads and writes files, on first use: the shell completes names of weights without waiting for torch."""
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f"ristn_cli.weights.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
