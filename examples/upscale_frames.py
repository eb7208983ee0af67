"""Upscale NumPy frames from Python: `python examples/upscale_frames.py [FOLDER] [FRAMES]`.

`frames` may be any iterable of RGB images (H, W, 3), uint8 or uint16: a list, a slice of a video, a camera.
"""

import sys
from pathlib import Path

from ristn_cli import Upscaler, choose_backend, find_weights, load_weights
from ristn_cli.video import ReadOptions, read_frames, write_image

source = Path(__file__).with_name("bbb.mp4")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "frames")
count = int(sys.argv[2]) if len(sys.argv) > 2 else None

upscaler = Upscaler(load_weights(find_weights("ristn-lite")), choose_backend())
frames = (frame.image for frame in read_frames(source, ReadOptions(max_frames=count)))
folder.mkdir(parents=True, exist_ok=True)
for number, image in enumerate(upscaler.upscale(frames)):
    write_image(folder / f"{number:04}.png", image)
    print(f"frame {number}: {image.shape[1]}x{image.shape[0]}, {image.dtype}")
