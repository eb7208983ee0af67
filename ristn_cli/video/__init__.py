"""Video in and out: probe, frames with exact times and colours, encoding, and the mux with all else of the source.

The only package that knows PyAV, FFmpeg and imageio. It knows nothing of networks, and shows nothing to anyone.
"""

from ristn_cli.video.codecs import CODECS, choose_codec, part_suffix, size_step
from ristn_cli.video.compress import Compression, compress_clip, compress_images
from ristn_cli.video.drawing import Scaling, draw_label, resize_image, to_eight_bits
from ristn_cli.video.images import encode_jpeg, encode_png, read_image, write_image
from ristn_cli.video.info import (
    Chapter,
    Color,
    FieldOrder,
    Frame,
    Image,
    MasteringMetadata,
    StreamInfo,
    VideoError,
    VideoInfo,
)
from ristn_cli.video.interlace import Deinterlace, find_fields
from ristn_cli.video.mux import join_and_mux, try_mux
from ristn_cli.video.plan import CONTAINERS, StreamPlan, check_mux
from ristn_cli.video.reader import find_transparency, read_frames
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.source import list_images, probe
from ristn_cli.video.verify import has_variable_rate, presentation_times, verify
from ristn_cli.video.writer import FrameWriter

__all__ = [
    "ALPHA_FLAGS",
    "CODECS",
    "CONTAINERS",
    "Chapter",
    "Color",
    "Compression",
    "Deinterlace",
    "FieldOrder",
    "Frame",
    "FrameWriter",
    "Image",
    "MasteringMetadata",
    "Resampler",
    "Scaling",
    "StreamInfo",
    "StreamPlan",
    "VideoError",
    "VideoInfo",
    "check_mux",
    "choose_codec",
    "compress_clip",
    "compress_images",
    "draw_label",
    "encode_jpeg",
    "encode_png",
    "find_fields",
    "find_transparency",
    "has_variable_rate",
    "join_and_mux",
    "list_images",
    "part_suffix",
    "presentation_times",
    "probe",
    "read_frames",
    "read_image",
    "resize_image",
    "size_step",
    "to_eight_bits",
    "try_mux",
    "verify",
    "write_image",
]
