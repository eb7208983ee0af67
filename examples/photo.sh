#!/bin/sh
# A still, and a folder of numbered images, both made here: photo.jpg becomes large.png, small/*.png large/*.png.
set -eu
clip="$(dirname "$0")/bbb.mp4"
mkdir -p small
ffmpeg -y -loglevel error -i "$clip" -frames:v 1 photo.jpg
ffmpeg -y -loglevel error -i "$clip" -frames:v 3 small/%05d.png
ristn upscale photo.jpg large.png "$@"
ristn upscale small large/%05d.png "$@"
