#!/bin/sh
# Everything of a video, at four times its size: upscaled.mkv.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" upscaled.mkv "$@"
