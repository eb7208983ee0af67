"""Subtract the mean colour error of a network from the bias of its last convolution, for weights of compressed footage.

    python tools/centre_colours.py WEIGHTS CLIPS OUTPUT --crf 23 --frames 8 --trim 2

CLIPS is a folder of clips that the network was trained with. Their first frames are reduced and compressed as `ristn
evaluate` does. The error of a clip is the mean difference from bicubic, by channel: bicubic keeps mean colours. OUTPUT
is WEIGHTS less the mean over the clips, without the `--trim` largest and smallest values.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ristn_cli.engine.device import choose_backend  # noqa: E402
from ristn_cli.engine.upscaler import Upscaler  # noqa: E402
from ristn_cli.evaluation.dataset import Clip, plan_clips  # noqa: E402
from ristn_cli.evaluation.methods import interpolate_bicubic  # noqa: E402
from ristn_cli.evaluation.scoring import Protocol, read_pairs  # noqa: E402
from ristn_cli.weights import load_weights, read_metadata, save_weights  # noqa: E402


def colour_error(upscaler: Upscaler, clip: Clip, protocol: Protocol) -> np.ndarray:
    """Return the mean difference from bicubic in 8-bit levels of red, green and blue (3,)."""
    lr = [image for _, image in read_pairs(clip, protocol)]
    pairs = zip(upscaler.upscale(lr), lr, strict=True)
    differences = [sr.mean((0, 1)) - interpolate_bicubic(image).mean((0, 1)) for sr, image in pairs]
    return np.asarray(np.mean(differences, axis=0))


def trimmed_mean(errors: np.ndarray, trim: int) -> np.ndarray:
    """Return the mean over the rows of (N, 3), by column, without the `trim` largest and smallest values."""
    kept = np.sort(errors, axis=0)[trim : len(errors) - trim]
    if not len(kept):
        raise SystemExit(f"{len(errors)} clips: expected more than {2 * trim}, because --trim is {trim}")
    return np.asarray(kept.mean(axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("weights", "clips", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--crf", type=int, default=23, help="x264's rate factor")
    parser.add_argument("--frames", type=int, default=8, help="frames of each clip")
    parser.add_argument("--trim", type=int, default=2, help="largest and smallest values to leave out")
    options = parser.parse_args()
    model = load_weights(options.weights)
    upscaler = Upscaler(model, choose_backend("cpu", "fp32"))
    protocol = Protocol(crf=options.crf, max_frames=options.frames)
    clips = plan_clips(options.clips, max_frames=options.frames)
    errors = np.stack([colour_error(upscaler, clip, protocol) for clip in clips])
    mean = trimmed_mean(errors, options.trim)
    print("levels of red, green and blue, mean:", *(f"{value:+.2f}" for value in mean))
    print("what is left, from", *(f"{value:+.2f}" for value in (errors - mean).min(0)), end=" to ")
    print(*(f"{value:+.2f}" for value in (errors - mean).max(0)))
    bias = model.reconstruction.last.bias.data
    bias -= bias.new_tensor(mean / 255)
    save_weights(model, options.output, metrics=read_metadata(options.weights)["metrics"])


if __name__ == "__main__":
    main()
