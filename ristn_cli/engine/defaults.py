"""Settings that were measured to be the fastest on this machine, kept in the user's configuration folder.

`ristn bench --sweep --save-default` writes them, `ristn upscale` reads them; nothing else depends on them.
"""

import hashlib
import json
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ristn_cli.model import RISTNConfig
from ristn_cli.own_files import write_text
from ristn_cli.typed import MalformedError, build, read_json

FORMAT = "ristn-defaults/1"

LARGEST = 4096
"""Frames of a window and pixels of a tile that a setting may have."""


@dataclass(frozen=True, kw_only=True)
class MachineDefault:
    """The fastest setting of one network on one device.

    Attributes:
        network: of the network's configuration, by `config_digest`.
        device: by `device_name`.
        precision: fp32, fp16 or bf16; the others hold in it alone.
        window: frames read together.
        tile: largest side of a tile in LR pixels.
    """

    network: str
    device: str
    precision: str
    window: int
    tile: int

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "fp16", "bf16"):
            raise ValueError(f"precision is {self.precision[:10]!r}, expected fp32, fp16 or bf16")
        if not 1 <= self.window <= LARGEST or not 32 <= self.tile <= LARGEST:
            raise ValueError(f"windows of {self.window} frames and tiles of {self.tile} pixels cannot be")


@dataclass(frozen=True, kw_only=True)
class _File:
    """What the file holds."""

    format: str
    defaults: list[MachineDefault]


def config_folder() -> Path:
    """Where this platform keeps a user's configuration of a program."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "ristn"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "ristn"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ristn"


def defaults_file() -> Path:
    """The file they are kept in."""
    return config_folder() / "defaults.json"


def config_digest(config: RISTNConfig) -> str:
    """What tells one configuration from another; weights do not change the speed."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def processor_name() -> str:
    """As Linux has it in /proc/cpuinfo, else as Python knows it."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The hardware behind a device: a home folder may be shared by several machines."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {processor_name()}"


def read_defaults() -> list[MachineDefault]:
    """All that are kept; none where there is no such file, or one of another version.

    Raises:
        MalformedError: the file is of another form.
    """
    path = defaults_file()
    try:
        values = read_json(path)
        if isinstance(values, dict) and values.get("format", FORMAT) != FORMAT:
            return []
        kept: _File = build(_File, values, str(path))
    except OSError:
        return []
    return kept.defaults


def find_default(config: RISTNConfig, device: torch.device) -> MachineDefault | None:
    """What is kept for a network on a device. Raises MalformedError as `read_defaults` does."""
    key = config_digest(config), device_name(device)
    return next((default for default in read_defaults() if (default.network, default.device) == key), None)


def save_default(default: MachineDefault) -> Path:
    """Keep `default`, in the place of an older one of the same network and device; the file it is kept in.

    Raises:
        OSError: the file cannot be written.
    """
    key = default.network, default.device
    others: list[MachineDefault] = []
    with suppress(MalformedError):  # it is replaced
        others = [other for other in read_defaults() if (other.network, other.device) != key]
    path = defaults_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [asdict(entry) for entry in (*others, default)]
    write_text(path, json.dumps({"format": FORMAT, "defaults": entries}, indent=2) + "\n")
    return path


def forget_defaults() -> int:
    """Forget all of them; how many there were.

    Raises:
        OSError: the file cannot be removed.
    """
    count = 0
    with suppress(MalformedError):
        count = len(read_defaults())
    defaults_file().unlink(missing_ok=True)
    return count
