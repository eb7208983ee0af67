"""Upscale the example clip from Python: `python examples/upscale_clip.py [OUTPUT] [FRAMES]`."""

import sys
from pathlib import Path

from ristn_cli import (
    Progress,
    RunOptions,
    UpscaleOptions,
    Upscaler,
    choose_backend,
    find_weights,
    load_weights,
    upscale_video,
)

source = Path(__file__).with_name("bbb.mp4")
target = Path(sys.argv[1] if len(sys.argv) > 1 else "out.mp4")
frames = int(sys.argv[2]) if len(sys.argv) > 2 else None

upscaler = Upscaler(load_weights(find_weights("ristn-lite")), choose_backend())
for event in upscale_video(source, target, upscaler, UpscaleOptions(max_frames=frames), RunOptions(overwrite=True)):
    if isinstance(event, Progress):
        print(f"{event.frames} of {event.total} frames")
