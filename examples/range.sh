#!/bin/sh
# A frame-exact range of a video, with its audio: range.mp4.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" range.mp4 --start 0:01 --end 0:01.5 "$@"
