#!/bin/sh
# Scores on a compressed clip, and the places where the network gains least: worst.png.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn evaluate "$clip" --crf 28 --failures worst.png "$@"
