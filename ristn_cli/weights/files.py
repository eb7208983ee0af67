"""Reading and writing weights as safetensors files.

The file's metadata contains the network's configuration and its metrics, so a path is enough to load it. Pickled
checkpoints are refused because they can execute code.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ristn_cli.model import RISTN, RISTNConfig
from ristn_cli.own_files import writing
from ristn_cli.typed import build, parse_json
from ristn_cli.weights.records import WeightsError

FORMAT = "ristn-1"

LONGEST_NAME = 100
"""Characters of a tensor's name that a message shows."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a weights file: `config`, a RISTNConfig, and `metrics`.

    Raises:
        WeightsError: the file is not a weights file of ristn.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {'is not a file' if path.exists() else 'no such weights file'}")
    if path.suffix.lower() in {".pt", ".pth", ".ckpt", ".bin", ".pkl"}:
        raise WeightsError(f"{path}: pickled checkpoints can execute code and are not read; use a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: format is {metadata.get('format')!r}, expected {FORMAT!r}: not a weights file of ristn"
        )
    try:
        config = RISTNConfig.from_dict(parse_json(metadata["config"]))
        return {
            "config": config,
            "metrics": build(dict[str, Any], parse_json(metadata.get("metrics", "{}")), "metrics"),
        }
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: unusable configuration ({error}); was it written by another version of ristn?"
        ) from error


def load_weights(path: Path) -> RISTN:
    """Load the network of a weights file, in float32 on the CPU and in evaluation mode.

    Raises:
        WeightsError: the file is not a weights file of ristn, or its tensors do not match its configuration.
    """
    config: RISTNConfig = read_metadata(path)["config"]
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        layers = config.lstm_layers + config.refine_bottlenecks + sum(config.branch_one) + sum(config.branch_two)
        if len(names) < layers:
            raise WeightsError(
                f"{path}: has {len(names)} tensors, too few for the {layers} layers of its configuration"
            )
        with torch.device("meta"):  # uses no memory, whatever the configuration
            # "delay_line" would make PyTorch import SymPy here, which takes half a second.
            model = RISTN(replace(config, gate_start="uniform"))
        model.config = config
        wanted = model.state_dict()
        if differing := sorted(names ^ wanted.keys()):
            what = "is unknown" if differing[0] in names else "is missing"
            raise WeightsError(f"{path}: tensors do not fit the configuration: {differing[0][:LONGEST_NAME]} {what}")
        for name, tensor in wanted.items():
            found = tuple(file.get_slice(name).get_shape())
            if found != tuple(tensor.shape):
                raise WeightsError(
                    f"{path}: tensors do not fit the configuration: {name} has the shape {found}, expected "
                    f"{tuple(tensor.shape)}"
                )
        # Copy, because the file is memory-mapped and may be replaced.
        tensors = {name: file.get_tensor(name).to(tensor.dtype, copy=True) for name, tensor in wanted.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def save_weights(model: RISTN, path: Path, *, metrics: dict[str, Any], overwrite: bool = True) -> None:
    """Write a weights file, completely or not at all: matrices in half precision, vectors in float32.

    Raises:
        FileExistsError: `path` exists, and `overwrite` is false.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor).cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), "metrics": json.dumps(metrics)}
    with writing(path, overwrite=overwrite) as file:  # `save_file` would create a file that only its owner can read
        file.write(save(tensors, metadata=metadata))
