"""Released weights: their records, the choice for a source, finding them, and reading and writing weights files."""

from ristn_cli.weights.choice import CLEAN_MODEL, ModelChoice, choose_model
from ristn_cli.weights.files import load_weights, read_metadata, save_weights
from ristn_cli.weights.finding import bundled_folder, cached_file, file_sha256, find_weights, locate, obtain
from ristn_cli.weights.records import RELEASES, Release, WeightsError, find_release

__all__ = [
    "CLEAN_MODEL",
    "RELEASES",
    "ModelChoice",
    "Release",
    "WeightsError",
    "bundled_folder",
    "cached_file",
    "choose_model",
    "file_sha256",
    "find_release",
    "find_weights",
    "load_weights",
    "locate",
    "obtain",
    "read_metadata",
    "save_weights",
]
