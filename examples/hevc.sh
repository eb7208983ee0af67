#!/bin/sh
# Another codec, with its quality and its speed: hevc.mkv.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" hevc.mkv --codec hevc --crf 20 --preset slow "$@"
