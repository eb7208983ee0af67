"""Upscale the example clip from Python: `python examples/upscale_clip.py [OUTPUT] [FRAMES]`."""

import sys
from pathlib import Path

import ristn_cli as ristn

source = Path(__file__).with_name("bbb.mp4")
target = Path(sys.argv[1] if len(sys.argv) > 1 else "out.mp4")
options = ristn.UpscaleOptions(max_frames=int(sys.argv[2]) if len(sys.argv) > 2 else None)

upscaler = ristn.Upscaler(ristn.load_weights(ristn.find_weights("ristn-lite")), ristn.choose_backend())
for event in ristn.upscale_video(source, target, upscaler, options, ristn.RunOptions(overwrite=True)):
    if isinstance(event, ristn.Progress):
        print(f"{event.frames} of {event.total} frames")
