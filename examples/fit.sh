#!/bin/sh
# As large as fits into a size, here 1000x1000: fit.mp4. Others are 2x, 3x, WIDTHxHEIGHT and fit:1080p.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" fit.mp4 --size fit:1000x1000 "$@"
