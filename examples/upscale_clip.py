"""Upscale the example clip from Python: `python examples/upscale_clip.py [OUTPUT] [FRAMES]`."""

import sys
from pathlib import Path

from ristn_cli import UpscaleOptions, Upscaler, choose_backend, find_weights, load_weights, upscale_video

source = Path(__file__).with_name("bbb.mp4")
target = Path(sys.argv[1] if len(sys.argv) > 1 else "out.mp4")
frames = int(sys.argv[2]) if len(sys.argv) > 2 else None

upscaler = Upscaler(load_weights(find_weights("ristn-lite")), choose_backend())
for progress in upscale_video(source, target, upscaler, UpscaleOptions(max_frames=frames), overwrite=True):
    print(f"{progress.frames} of {progress.total} frames")
