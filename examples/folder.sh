#!/bin/sh
# A folder of videos, made here: season1 becomes upscaled. The second run finds all done.
set -eu
clip="$(dirname "$0")/bbb.mp4"
mkdir -p season1/extras
cp "$clip" season1/1.mp4
cp "$clip" season1/extras/2.mp4
ristn upscale season1 upscaled --recursive "$@"
ristn upscale season1 upscaled --recursive "$@"
