"""Upscale NumPy frames from Python: `python examples/upscale_frames.py [FOLDER] [FRAMES]`.

`frames` may be any iterable of RGB images (H, W, 3), uint8 or uint16: a list, a slice of a video, a camera.
"""

import sys
from pathlib import Path

import ristn_cli as ristn
from ristn_cli.video import ReadOptions, read_frames, write_image

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "frames")
count = int(sys.argv[2]) if len(sys.argv) > 2 else None
upscaler = ristn.Upscaler(ristn.load_weights(ristn.find_weights("ristn-lite")), ristn.choose_backend())
frames = (frame.image for frame in read_frames(Path(__file__).with_name("bbb.mp4"), ReadOptions(max_frames=count)))
folder.mkdir(parents=True, exist_ok=True)
for number, image in enumerate(upscaler.upscale(frames)):
    write_image(folder / f"{number:04}.png", image)
    print(f"frame {number}: {image.shape[1]}x{image.shape[0]}, {image.dtype}")
