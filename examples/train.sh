#!/bin/sh
# A training of a few steps, to see that it works; lite in place of small.toml is the real one: runs/small.
set -eu
here="$(dirname "$0")"
mkdir -p data/clips
cp "$here/bbb.mp4" data/clips
ristn train "$here/small.toml" --data data --output runs/small "$@"
