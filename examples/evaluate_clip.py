"""Measure the network and bicubic on a clip from Python: `python examples/evaluate_clip.py [CLIP] [FRAMES]`.

The clip is the ground truth: it is reduced to a quarter, upscaled again and compared, as the paper's tables do.
"""

import sys
from pathlib import Path

from ristn_cli import (
    Interpolation,
    Network,
    Protocol,
    Upscaler,
    choose_backend,
    evaluate_clip,
    find_weights,
    load_weights,
    plan_clips,
)

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("bbb.mp4")
count = int(sys.argv[2]) if len(sys.argv) > 2 else None

upscaler = Upscaler(load_weights(find_weights("ristn-lite")), choose_backend())
for clip in plan_clips(source, max_frames=count):
    for method in (Interpolation("bicubic"), Network("ristn-lite", upscaler)):
        scores = evaluate_clip(clip, method, Protocol(max_frames=count))
        means = scores.means
        print(
            f"{clip.name}, {method.name}: {len(scores.frames)} frames, {means.psnr_y:.2f} dB, SSIM {means.ssim_y:.4f}"
        )
