#!/bin/sh
# An interlaced video with oblong pixels, as on a DVD: dvd.vob is made here, upscaled it is dvd.mkv.
set -eu
clip="$(dirname "$0")/bbb.mp4"
ffmpeg -y -loglevel error -i "$clip" -vf "scale=352:288,tinterlace=interleave_top,fieldorder=tff,setdar=4/3" \
  -flags +ildct+ilme -c:v mpeg2video -b:v 3M -c:a ac3 dvd.vob
ristn upscale dvd.vob dvd.mkv --deinterlace field --square-pixels "$@"
