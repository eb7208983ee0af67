#!/bin/sh
# A video that another program writes to standard input: piped.mkv.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ffmpeg -loglevel error -i "$clip" -f yuv4mpegpipe - | ristn upscale - piped.mkv --model ristn-lite-real "$@"
