"""The formats that FFmpeg, as a library or a program, may open: video and image formats only.

FFmpeg detects formats by content, not by name. Without this list it would open a text file that begins with `ffconcat
version` as a playlist, and then the files that it names. A harmless-looking `a.mp4` could so copy another file into the
output.
"""

from __future__ import annotations

from pathlib import Path

CONTAINERS = (
    "matroska,webm mov,mp4,m4a,3gp,3g2,mj2 avi mpegts mpegtsraw mpeg flv live_flv asf asf_o ogg rm ivr mxf gxf lxf nut "
    "nsv pva nuv ty wtv dv swf ivf yuv4mpegpipe cine r3d dxa film_cpk filmstrip flic vivo ingenient kux lvf luodat ifv "
    "pmp moflex mtv vividas iv8 lmlm4 sdr2 simbiosis_imx smjpeg dhav hxvs mxg mpjpeg nc"
)
GAME_CONTAINERS = (
    "4xm bethsoftvid bfi bink bmv c93 cdxl dfa dsicin ea gdv hnm idcin iff ipmovie jv mgsts mm mods mv mvi paf psxstr "
    "rl2 roq rpl siff sga smk smush thp tiertexseq vmd wc3movie wsvqa xmv yop usm anm frm tmv avs cdg pdv"
)
ELEMENTARY_STREAMS = (
    "h261 h263 h264 hevc vvc evc av1 obu apv mpegvideo m4v vc1 vc1test dirac cavsvideo avs2 avs3 mjpeg mjpeg_2000 "
    "dnxhd ipu ser"
)
IMAGES = (
    "image2 apng gif webp_anim jpegxl_anim ico fits alias_pix brender_pix txd bmp_pipe cri_pipe dds_pipe dpx_pipe "
    "exr_pipe gem_pipe gif_pipe hdr_pipe j2k_pipe jpeg_pipe jpegls_pipe jpegxl_pipe jpegxs_pipe pam_pipe pbm_pipe "
    "pcx_pipe pfm_pipe pgm_pipe pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe pictor_pipe png_pipe ppm_pipe psd_pipe "
    "qdraw_pipe qoi_pipe sgi_pipe sunrast_pipe tiff_pipe vbn_pipe webp_pipe xbm_pipe xpm_pipe xwd_pipe"
)
AUDIO = "mp3 flac wav w64 aac ac3 eac3 aiff caf ape wv tta"
"""Audio formats. They may contain a cover, and without one the error message can state what the file is."""

FORMATS = tuple(" ".join((CONTAINERS, GAME_CONTAINERS, ELEMENTARY_STREAMS, IMAGES, AUDIO)).split())
"""FFmpeg's names of the allowed demuxers."""

READ_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
"""FFmpeg options for every input file."""

IMAGE_OPTIONS = {"pattern_type": "none"}
"""Options for FFmpeg's image demuxer: `a%d.png` is a file name, not a pattern."""

HEAD_BYTES = 4096
# First bytes of files that refer to other files, and what these files are.
SCRIPTS = (
    (b"ffconcat version", "a list of files for FFmpeg (ffconcat)"),
    (b"#EXTM3U", "a playlist (HLS or M3U)"),
    (b"<MPD", "a playlist (DASH)"),
    (b"<CompositionPlaylist", "a playlist (IMF)"),
    (b"v=0\no=", "a description of a network stream (SDP)"),
    (b"v=0\r\no=", "a description of a network stream (SDP)"),
    (b"# VobSub index file", "an index of subtitles (VobSub)"),
    (b"RTSPtext", "a reference to a network stream"),
    (b"<ASX", "a playlist (ASX)"),
    (b"<smil", "a playlist (SMIL)"),
    (b"<asx", "a playlist (ASX)"),
    (b"[playlist]", "a playlist (PLS)"),
    (b"[Reference]", "a reference to a network stream"),
    (b"MLVI", "a Magic Lantern video, which consists of several files"),
)


def file_url(path: Path) -> str:
    """Return a path as a URL for FFmpeg, so that `a:b.mp4` is not read as a protocol, nor `-x.mp4` as an option."""
    return f"file:{path.absolute()}"


def describe_script(path: Path) -> str | None:
    """Return what a file that refers to other files is, such as a playlist; None for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return None
    for prefix, kind in SCRIPTS:
        # XML has declarations and comments before its first element.
        if head.startswith(prefix) or (prefix.startswith(b"<") and head.startswith(b"<") and prefix in head):
            return kind
    return None
