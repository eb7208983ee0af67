"""Released weights: their records, the choice for a source, finding them, and reading and writing weights files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ristn_cli.weights.choice import CLEAN_MODEL, ModelChoice, choose_model
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
from ristn_cli.weights.records import RELEASES, REPLACED, Release, WeightsError, find_release

if TYPE_CHECKING:
    from ristn_cli.weights.files import load_weights, read_metadata, save_weights

__all__ = [
    "CLEAN_MODEL",
    "RELEASES",
    "REPLACED",
    "ModelChoice",
    "Release",
    "WeightsError",
    "bundled_folder",
    "cached_file",
    "choose_model",
    "file_sha256",
    "find_release",
    "find_weights",
    "is_offline",
    "load_weights",
    "locate",
    "obtain",
    "read_metadata",
    "save_weights",
    "weights_file",
]


def __getattr__(name: str) -> Any:
    """What reads and writes files, on first use: the shell completes names of weights without waiting for torch."""
    if name not in ("load_weights", "read_metadata", "save_weights"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ristn_cli.weights.files"), name)
