#!/bin/sh
# A page with moments of a video by each set of weights: bbb-preview.html, to be opened in a browser.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn preview "$clip" bbb-preview.html "$@"
