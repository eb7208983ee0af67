#!/bin/sh
# One video on every core or GPU of this machine: ray.mkv. It needs: pip install 'ristn[ray]'
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" ray.mkv "$@" --ray
