"""Measure the network and bicubic on a clip from Python: `python examples/evaluate_clip.py [CLIP] [FRAMES]`.

The clip is the ground truth: it is reduced to a quarter, upscaled again and compared, as the paper's tables do.
"""

import sys
from pathlib import Path

import ristn_cli as ristn

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("bbb.mp4")
count = int(sys.argv[2]) if len(sys.argv) > 2 else None
upscaler = ristn.Upscaler(ristn.load_weights(ristn.find_weights("ristn-lite")), ristn.choose_backend())
for clip in ristn.plan_clips(source, max_frames=count):
    for method in (ristn.Interpolation("bicubic"), ristn.Network("ristn-lite", upscaler)):
        scores = ristn.evaluate_clip(clip, method, ristn.Protocol(max_frames=count))
        mean = scores.means
        print(f"{clip.name}, {method.name}: {len(scores.frames)} frames, {mean.psnr_y:.2f} dB, SSIM {mean.ssim_y:.4f}")
