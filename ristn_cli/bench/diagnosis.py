"""What `ristn doctor` looks at beside versions: device, codecs, weights, memory, disk and speed. Names no folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from ristn_cli.bench.installation import Problem, Section, without_folders
from ristn_cli.bench.machine import processor_name
from ristn_cli.bench.networks import random_network
from ristn_cli.bench.scene import make_scene
from ristn_cli.engine.device import Backend, free_bytes
from ristn_cli.engine.memory import PROGRAM_BYTES
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.plan import count_windows, format_bytes
from ristn_cli.model import CONFIGS
from ristn_cli.video import (
    CODECS,
    VideoError,
    find_decoders,
    library_versions,
    program_version,
    try_encoder,
)
from ristn_cli.weights import CLEAN_MODEL, RELEASES, bundled_folder, is_offline, load_weights, locate

FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "asimd", "asimdhp", "bf16", "i8mm", "sve"),
)
"""Instruction sets that the network gains from, as /proc/cpuinfo names them."""

TEST_SECONDS = 2.0
TEST_SIDE = 96
"""LR pixels of a side of the test's frames on a processor. A GPU gets whole frames."""

WIDTH, HEIGHT = 480, 270
EPISODE_FRAMES = 45 * 60 * 24

LITTLE_MEMORY = PROGRAM_BYTES + (1 << 30)
"""Bytes: the program, and windows and an encoder for 480p in their smallest form."""

LITTLE_DISK = 2 << 30


def check_device(backend: Backend) -> Section:
    """The processor, its instruction sets, GPUs, and what is used of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    section = Section("Device")
    section.facts.extend(
        [
            ("processor", processor_name()),
            ("cores", f"{cores} usable of {os.cpu_count()}; PyTorch uses {threads} thread{'s' * (threads != 1)}"),
            ("instruction sets", ", ".join(instruction_sets()) or "unknown"),
            ("PyTorch's kernels", torch.backends.cpu.get_cpu_capability()),
            *(("GPU", describe_gpu(number)) for number in range(torch.cuda.device_count())),
            ("used", f"{backend.device} in {backend.precision}"),
        ]
    )
    if threads < cores and backend.device.type == "cpu":
        cure = "unset OMP_NUM_THREADS" if "OMP_NUM_THREADS" in os.environ else "set OMP_NUM_THREADS to the cores"
        section.problems.append(Problem(f"PyTorch uses {threads} of {cores} cores.", cure))
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT" and backend.device.type == "cpu":
        section.problems.append(
            Problem("The processor has no AVX2, so that PyTorch is slow on it.", "use another machine or a GPU")
        )
    if has_nvidia_driver() and not torch.cuda.is_available():
        why = "is built for the CPU alone" if torch.version.cuda is None else "cannot use its driver"
        section.problems.append(
            Problem(
                f"There is an NVIDIA GPU, and this PyTorch {why}.",
                "install a PyTorch with CUDA, see pytorch.org, and the newest driver",
            )
        )
    if torch.backends.mps.is_available() and backend.device.type == "cpu":
        section.facts.append(("GPU", "Apple's, unused; --device mps uses it"))
    if is_busy(cores):
        section.problems.append(
            Problem(
                f"Other programs keep the processor busy (load {os.getloadavg()[0]:.1f} on {cores} cores).",
                "end them, or expect less speed than shown here",
            )
        )
    return section


def instruction_sets() -> list[str]:
    """Those of `FLAGS` that the processor has; empty where /proc/cpuinfo is not there."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [flag for flag in FLAGS if flag in flags]


def describe_gpu(number: int) -> str:
    """Name, memory and compute capability of a CUDA device."""
    properties = torch.cuda.get_device_properties(number)
    capability = f"compute capability {properties.major}.{properties.minor}"
    return f"cuda:{number}: {properties.name}, {format_bytes(properties.total_memory)}, {capability}"


def has_nvidia_driver() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def is_busy(cores: int) -> bool:
    """Whether more programs are at work than there are cores."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > cores + 0.5


def check_codecs() -> Section:
    """FFmpeg's versions, the encoders that work, and the decoders of usual formats."""
    section = Section("Codecs")
    try:
        section.facts.append(("ffmpeg program", program_version()))
    except VideoError as error:
        section.facts.append(("ffmpeg program", "not found"))
        section.problems.append(
            Problem(
                f"No ffmpeg program can be used: {without_folders(error)}.",
                "run pip install --force-reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg program",
                is_fatal=True,
            )
        )
    libraries = library_versions()
    section.facts.append(("libraries", ", ".join(f"{name} {number}" for name, number in libraries.items())))
    working = {name: try_encoder(codec) for name, codec in CODECS.items()}
    for label, wanted in (("encoders that work", True), ("that do not", False)):
        section.facts.append((label, ", ".join(name for name, works in working.items() if works == wanted) or "none"))
    found, missing = find_decoders()
    section.facts.append(("decoders", ", ".join(found)))
    section.facts.append(("decoders missing", ", ".join(missing) or "none"))
    lacking = [name for name, works in working.items() if not works and "nvenc" not in name]
    if lacking:
        section.problems.append(
            Problem(
                f"PyAV's FFmpeg does not encode {', '.join(lacking)}.",
                "run pip install --force-reinstall --only-binary av av",
                is_fatal=not any(working.values()),
            )
        )
    return section


def check_weights() -> Section:
    """Where the released weights lie; damaged ones, and none at all, are problems."""
    section = Section("Weights")
    missing = []
    for release in RELEASES.values():
        path = locate(release)
        if path is not None:
            section.facts.append((release.name, "bundled" if path.parent == bundled_folder() else "in the cache"))
        elif (bundled_folder() / release.file_name).is_file():
            section.facts.append((release.name, "damaged"))
            text = f"The bundled weights {release.name} are damaged."
            section.problems.append(Problem(text, "install ristn again", is_fatal=True))
        else:
            section.facts.append((release.name, f"not here; ristn download-weights {release.name} fetches them"))
            missing.append(release.name)
    if len(missing) == len(RELEASES):
        text, cure = "No released weights are on this machine.", f"run ristn download-weights {CLEAN_MODEL}"
        section.problems.append(Problem(text, cure))
    if missing and is_offline():
        text = f"HF_HUB_OFFLINE is set, so that {', '.join(missing)} cannot be downloaded."
        section.problems.append(Problem(text, "unset it"))
    return section


def check_room(backend: Backend) -> Section:
    """Free memory and disk."""
    section = Section("Memory and disk")
    memory = free_bytes(torch.device("cpu"))
    section.facts.append(("free memory", "unknown" if memory is None else format_bytes(memory)))
    if memory is not None and memory < LITTLE_MEMORY:
        text = f"Only {format_bytes(memory)} of memory are free; 480p needs about {format_bytes(LITTLE_MEMORY)}."
        section.problems.append(Problem(text, "close other programs, or raise the limit of the container"))
    if backend.device.type == "cuda":
        section.facts.append(("free GPU memory", format_bytes(free_bytes(backend.device) or 0)))
    folders = {
        "current folder": (Path(), "write the output to another disk"),
        "temporary folder": (Path(tempfile.gettempdir()), "set TMPDIR to a folder on another disk"),
    }
    for label, (folder, other) in folders.items():
        free = shutil.disk_usage(folder).free
        is_writable = os.access(folder, os.W_OK)
        section.facts.append((label, f"{format_bytes(free)} free{'' if is_writable else ', not writable'}"))
        if free < LITTLE_DISK:
            text = f"Only {format_bytes(free)} of disk are free in the {label}."
            section.problems.append(Problem(text, f"make room, or {other}"))
    return section


def check_speed(backend: Backend, seconds: float = TEST_SECONDS) -> Section:
    """How fast the default network is here, by some seconds of work."""
    release = RELEASES[CLEAN_MODEL]
    path = locate(release)
    model = random_network(CONFIGS[release.config]) if path is None else load_weights(path)
    section = Section("Speed")
    try:
        rate = measure_rate(Upscaler(model, backend, compilation="off"), seconds)
    except Exception as error:  # a driver raises anything
        section.problems.append(
            Problem(
                f"The network does not run on {backend.device}: {type(error).__name__}: {without_folders(error)}.",
                "try --device cpu, and --precision fp32; report this text",
                is_fatal=True,
            )
        )
        return section
    hours = EPISODE_FRAMES / rate / 3600
    section.facts.extend(
        [
            ("network", f"{CLEAN_MODEL} on {backend.device} in {backend.precision}, without reading and encoding"),
            ("speed", f"{rate:.3g} frames of {WIDTH}x{HEIGHT} a second"),
            (
                "45 min at 24 fps",
                f"about {hours:.2g} hours" if hours >= 1 else f"about {max(1, round(60 * hours))} minutes",
            ),
        ]
    )
    return section


def measure_rate(upscaler: Upscaler, seconds: float) -> float:
    """Frames per second of the example's size that the network makes, measured for about as many seconds."""
    upscaler.fit(WIDTH, HEIGHT)
    tiling = upscaler.tiling
    rows, columns = (plan_spans(size, tiling.tile, tiling.overlap) for size in (HEIGHT, WIDTH))
    height, width = rows[0].size, columns[0].size
    if upscaler.backend.device.type == "cpu":
        height, width = min(TEST_SIDE, height), min(TEST_SIDE, width)
    images = tuple(make_scene(width, height, tiling.window))
    upscaler.upscale_window(Window(images[:2], slice(0, 2)))  # memory is still cold
    window = Window(images, slice(tiling.context, tiling.window - tiling.context))
    began, windows = time.perf_counter(), 0
    while windows == 0 or time.perf_counter() - began < seconds:
        upscaler.upscale_window(window)
        windows += 1
    share = height * width / (len(rows) * rows[0].size * len(columns) * columns[0].size)
    window_seconds = (time.perf_counter() - began) / windows / share
    return EPISODE_FRAMES / (count_windows(EPISODE_FRAMES, tiling) * window_seconds)
