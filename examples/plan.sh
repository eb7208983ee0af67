#!/bin/sh
# What would be done, with the time and the disk space that it takes. Nothing is written.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" never.mkv --dry-run "$@"
