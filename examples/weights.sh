#!/bin/sh
# Released weights, and where they lie on this machine.
set -eu
ristn download-weights --list "$@"
