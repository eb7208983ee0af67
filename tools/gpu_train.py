"""Train from a pack of `tools/gpu_pack.py` for some minutes, with all material on the GPU.

    python tools/gpu_train.py PACK --minutes 8 --output RUN

All material is decoded once and kept on the device, which renders the windows. Each optimizer step joins several
batches of the recipe. The checkpoint counts the recipe's steps, so `ristn train` can resume it on a processor. Runs
from a checkout; needs PyTorch, NumPy, Pillow, safetensors, huggingface-hub and matplotlib, but not PyAV.
"""

import argparse
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ristn_cli.engine.device import Backend
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.loop import train
from ristn_cli.training.material import PAGES, FrameCache, read_source
from ristn_cli.training.recipe import Recipe
from ristn_cli.training.recipe_file import load_recipe

LARGEST_CHECKPOINT = 16 << 20
"""Largest checkpoint in bytes that can be sent back."""


def decode_all(recipe: Recipe, data: Path) -> FrameCache:
    cache = FrameCache(1 << 62)
    windows = TrainingWindows(recipe, data, cache=cache)
    pages = range(PAGES) if recipe.data.text_share else ()
    sources = [*windows.stills, *windows.clips, *pages]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, frames in zip(sources, pool.map(read_source, sources), strict=True):
            cache.get(source, lambda _, frames=frames: frames)
    return cache


def main() -> None:
    parser = argparse.ArgumentParser(description="Train from a pack, with everything kept on the GPU.")
    parser.add_argument("pack", type=Path, help="folder made by tools/gpu_pack.py")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run: checkpoint, log, curve, weights")
    parser.add_argument("--minutes", type=float, help="save and stop after this long, decoding included")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"], help="(default: bf16)")
    parser.add_argument("--merged", type=int, default=12, help="batches of the recipe in a step (default: 12)")
    parser.add_argument("--workers", type=int, default=8, help="processes that draw the windows (default: 8)")
    options = parser.parse_args()

    began = time.monotonic()
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "checkpoint.pt").exists():
        for name in ("checkpoint.pt", "log.jsonl"):
            if (options.pack / name).exists():
                shutil.copy(options.pack / name, output / name)
    recipe = replace(load_recipe(str(options.pack / "recipe.toml")), compile=False)
    data = options.pack / "data"
    cache = decode_all(recipe, data)
    print(f"decoded {cache.cached_bytes / 1e9:.2f} GB in {time.monotonic() - began:.0f} s", flush=True)
    minutes = None if options.minutes is None else options.minutes - (time.monotonic() - began) / 60
    for done in train(
        recipe,
        data=data,
        output=output,
        backend=Backend(torch.device(options.device), options.precision),
        minutes=minutes,
        workers=options.workers,
        cache=cache,
        merged=options.merged,
        on_device=True,
    ):
        summary = ", ".join(f"{name} {value:.3f}" for name, value in done.validation.items())
        print(
            f"step {done.iteration} of {done.iterations}: loss {done.loss:.5f}, "
            f"{done.pixels_per_second / 1e6:.2f} M LR pixels/s, {summary}",
            flush=True,
        )
    size = (output / "checkpoint.pt").stat().st_size
    print(f"{output / 'checkpoint.pt'}: {size / 1e6:.1f} MB")
    if size > LARGEST_CHECKPOINT:
        sys.exit(f"the checkpoint is larger than {LARGEST_CHECKPOINT / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
