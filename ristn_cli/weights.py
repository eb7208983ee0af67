"""Weights: released records, where they are found, and reading and writing safetensors files.

A file carries the network's configuration and its metrics in its metadata, so a path is all that is needed to load it.
Pickled checkpoints are refused: they can execute code.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ristn_cli.model import RISTN, RISTNConfig

FORMAT = "ristn-1"


class WeightsError(Exception):
    """Weights that cannot be found, read or trusted."""


@dataclass(frozen=True)
class Release:
    """A released weights file: its name, and the SHA-256 of its bytes."""

    name: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in `weights/`."""
        return f"{self.name}.safetensors"


RELEASES = {
    release.name: release
    for release in (Release("ristn-lite", "bd464853badcf62e4d8e5c8b7eb7f715e6baef833e185886c44bed2cd670e0f2"),)
}


def bundled_folder() -> Path:
    """Where released weights lie: inside an installed wheel, or at the top of a checkout."""
    installed = Path(__file__).parent / "_weights"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "weights"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(name: str) -> Path:
    """File of released weights, found without any network and checked by its SHA-256.

    Raises:
        WeightsError: unknown, missing, or not the released bytes.
    """
    if name not in RELEASES:
        raise WeightsError(f"unknown weights {name!r}: expected one of {', '.join(RELEASES)}, or a file by --weights")
    release = RELEASES[name]
    path = bundled_folder() / release.file_name
    if not path.is_file():
        raise WeightsError(f"{path}: the released weights are missing; install ristn again")
    found = file_sha256(path)
    if found != release.sha256:
        raise WeightsError(
            f"{path}: damaged: SHA-256 is {found[:12]}..., expected {release.sha256[:12]}...; install ristn again"
        )
    return path


def read_metadata(path: Path) -> dict[str, Any]:
    """Configuration (`config`, a RISTNConfig) and `metrics` of a weights file.

    Raises:
        WeightsError: not a weights file of this program.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".bin", ".pkl"}:
        raise WeightsError(f"{path}: pickled checkpoints can execute code and are not read; use a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: format is {metadata.get('format')!r}, expected {FORMAT!r}: not weights of ristn")
    try:
        config = RISTNConfig.from_dict(json.loads(metadata["config"]))
        return {"config": config, "metrics": json.loads(metadata.get("metrics", "{}"))}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: unusable configuration ({error}); made by another version of ristn?") from error


def load_weights(path: Path) -> RISTN:
    """The network of a weights file, in float32 on the CPU, ready for inference.

    Raises:
        WeightsError: not a weights file of this program, or its tensors do not fit its configuration.
    """
    config = read_metadata(path)["config"]
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    try:
        model = RISTN(config)
        model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: tensors do not fit the configuration: {reason[:200]}") from error
    return model.eval()


def save_weights(model: RISTN, path: Path, *, metrics: dict[str, Any]) -> None:
    """Write a weights file whole or not at all: matrices in half precision, vectors in float32."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor).cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), "metrics": json.dumps(metrics)}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:  # not `save_file`, which makes a file that only its owner can read
        file.write(save(tensors, metadata=metadata))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


__all__ = ["RELEASES", "Release", "WeightsError", "find_weights", "load_weights", "read_metadata", "save_weights"]
