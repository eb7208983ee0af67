"""Read, write and mux video and images: the only package that uses PyAV, FFmpeg and imageio.

It does not know networks, and does not print anything.
"""

from ristn_cli.video.codecs import CODECS, choose_codec, part_suffix, size_step
from ristn_cli.video.colors import check_matrix
from ristn_cli.video.compress import Compression, EncodedImages, compress_clip, compress_images, encode_images
from ristn_cli.video.drawing import Scaling, draw_label, resize_image, to_eight_bits
from ristn_cli.video.grain import Grain, GrainMaker
from ristn_cli.video.grain import to_planes as grain_planes
from ristn_cli.video.grain_meter import GrainMeter
from ristn_cli.video.interruption import check_interruption, interruptible
from ristn_cli.video.inventory import find_decoders, library_versions, program_version, try_encoder
from ristn_cli.video.limits import limit_variables
from ristn_cli.video.muxing.mux import join_and_mux, stream_mux
from ristn_cli.video.muxing.output import Output
from ristn_cli.video.muxing.stream_plan import CAPTIONS, CONTAINERS, StreamPlan, check_mux
from ristn_cli.video.muxing.trial import try_mux
from ristn_cli.video.muxing.verify import has_variable_rate, presentation_times, source_times, verify
from ristn_cli.video.reading.captions import find_captions
from ristn_cli.video.reading.finisher import ReadOptions
from ristn_cli.video.reading.images import read_image
from ristn_cli.video.reading.interlace import Deinterlace, find_fields
from ristn_cli.video.reading.probing import probe
from ristn_cli.video.reading.reader import (
    decoded_times,
    describe_from,
    find_transparency,
    may_be_transparent,
    read_frames,
)
from ristn_cli.video.reading.source import IMAGE_SUFFIXES, can_be_sought, list_images
from ristn_cli.video.reading.standard_input import InputStream, RawFormat, descriptor_of
from ristn_cli.video.reading.telecine import assume_film, find_telecine, takes_film
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.types import (
    FILM_GRAIN,
    Chapter,
    Clock,
    Color,
    FieldOrder,
    Frame,
    Image,
    MasteringMetadata,
    Scan,
    StreamInfo,
    Telecine,
    VideoError,
    VideoInfo,
)
from ristn_cli.video.vmaf import VmafMeter, find_vmaf
from ristn_cli.video.writing.embedding import EMBEDDING_CODECS
from ristn_cli.video.writing.encoder import usable_cores
from ristn_cli.video.writing.footprint import encoder_bytes
from ristn_cli.video.writing.image_file import (
    IMAGES_WITH_ALPHA,
    SCAN_SUFFIXES,
    WRITABLE_IMAGES,
    check_image_depth,
    encode_animation,
    encode_image,
    encode_jpeg,
    encode_png,
    write_image,
)
from ristn_cli.video.writing.inputs import InputFiles
from ristn_cli.video.writing.renditions import ScanEncoder, target_scan, to_video
from ristn_cli.video.writing.sequence import PART_SUFFIX as IMAGES_PART_SUFFIX
from ristn_cli.video.writing.sequence import (
    SIDECAR_NAME,
    ImagesWriter,
    existing_images,
    is_image_target,
    is_numbered,
    join_images,
    publish_images,
    single_image_error,
    verify_images,
)
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape, output_color
from ristn_cli.video.writing.writer import FrameWriter
from ristn_cli.video.writing.y4m import Y4mWriter

__all__ = [
    "ALPHA_FLAGS",
    "CAPTIONS",
    "CODECS",
    "CONTAINERS",
    "EMBEDDING_CODECS",
    "FILM_GRAIN",
    "IMAGES_PART_SUFFIX",
    "IMAGES_WITH_ALPHA",
    "IMAGE_SUFFIXES",
    "SCAN_SUFFIXES",
    "SIDECAR_NAME",
    "WRITABLE_IMAGES",
    "Chapter",
    "Clock",
    "Color",
    "Compression",
    "Deinterlace",
    "EncodedImages",
    "EncoderSettings",
    "FieldOrder",
    "Frame",
    "FrameWriter",
    "Grain",
    "GrainMaker",
    "GrainMeter",
    "Image",
    "ImagesWriter",
    "InputFiles",
    "InputStream",
    "MasteringMetadata",
    "Output",
    "OutputShape",
    "RawFormat",
    "ReadOptions",
    "Resampler",
    "Scaling",
    "Scan",
    "ScanEncoder",
    "StreamInfo",
    "StreamPlan",
    "Telecine",
    "VideoError",
    "VideoInfo",
    "VmafMeter",
    "Y4mWriter",
    "assume_film",
    "can_be_sought",
    "check_image_depth",
    "check_interruption",
    "check_matrix",
    "check_mux",
    "choose_codec",
    "compress_clip",
    "compress_images",
    "decoded_times",
    "describe_from",
    "descriptor_of",
    "draw_label",
    "encode_animation",
    "encode_image",
    "encode_images",
    "encode_jpeg",
    "encode_png",
    "encoder_bytes",
    "existing_images",
    "find_captions",
    "find_decoders",
    "find_fields",
    "find_telecine",
    "find_transparency",
    "find_vmaf",
    "grain_planes",
    "has_variable_rate",
    "interruptible",
    "is_image_target",
    "is_numbered",
    "join_and_mux",
    "join_images",
    "library_versions",
    "limit_variables",
    "list_images",
    "may_be_transparent",
    "output_color",
    "part_suffix",
    "presentation_times",
    "probe",
    "program_version",
    "publish_images",
    "read_frames",
    "read_image",
    "resize_image",
    "single_image_error",
    "size_step",
    "source_times",
    "stream_mux",
    "takes_film",
    "target_scan",
    "to_eight_bits",
    "to_video",
    "try_encoder",
    "try_mux",
    "usable_cores",
    "verify",
    "verify_images",
    "write_image",
]
