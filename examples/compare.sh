#!/bin/sh
# A page with the source beside its upscaled copy: compare.html, to be opened in a browser.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ristn upscale "$clip" compared.mp4 "$@"
ristn compare "$clip" compared.mp4
