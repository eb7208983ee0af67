#!/bin/sh
# What is in a file: its streams, colours and times.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn info "$clip" "$@"
