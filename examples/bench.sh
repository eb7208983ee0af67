#!/bin/sh
# How fast the network runs on this machine, stage by stage.
set -eu
ristn bench "$@"
