#!/bin/sh
# Scores of a method against the original, with pictures: report/index.html.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn evaluate "$clip" --model lanczos --report report "$@"
