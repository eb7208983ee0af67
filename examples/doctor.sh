#!/bin/sh
# Versions, device, codecs, memory, disk and speed of this machine, and a line for each problem.
set -eu
ristn doctor "$@"
