"""Resize images with libswscale, plane by plane. Does not know colours and files."""

from __future__ import annotations

from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ristn_cli.video.convert import plane
from ristn_cli.video.filters import Chain
from ristn_cli.video.types import Image

# Lanczos with three lobes for images; bicubic for alpha, because Lanczos rings at hard edges.
IMAGE_FLAGS = "lanczos+accurate_rnd+full_chroma_int+bitexact"
ALPHA_FLAGS = "bicubic+accurate_rnd+bitexact"


class Resampler:
    """Resizes to `width` x `height` with libswscale, which low-pass filters when downscaling. `flags` are libswscale's.

    Each channel is resized as a grey image, because libswscale would convert RGB to YUV.
    """

    def __init__(self, width: int, height: int, flags: str = IMAGE_FLAGS) -> None:
        self.width, self.height = width, height
        self._flags = flags
        self._key: tuple[object, ...] | None = None
        self._chain: Chain | None = None

    def apply(self, image: Image) -> Image:
        """Return an image (H, W, 3) or a plane (H, W) in the new size; the argument itself if it has that size.

        float32 values are clipped to [0, 1] and quantized to 16 bits, the precision of libswscale.
        """
        if image.shape[:2] == (self.height, self.width):
            return image
        if image.ndim == 2:
            return self._plane(image).copy()
        result = np.empty((self.height, self.width, image.shape[2]), image.dtype)
        for channel in range(image.shape[2]):
            result[..., channel] = self._plane(image[..., channel])
        return result

    def _plane(self, values: Image) -> Image:
        if values.dtype == np.float32:
            levels = np.clip(cast("NDArray[np.float32]", values), 0, 1) * np.float32(65535) + np.float32(0.5)
            return self._plane(levels.astype(np.uint16)).astype(np.float32) / np.float32(65535)
        name = "gray" if values.dtype == np.uint8 else "gray16le"
        frame = VideoFrame(values.shape[1], values.shape[0], name)
        plane(frame, 0)[...] = values
        key = (values.shape, name)
        if self._chain is None or key != self._key:
            # Without explicit ranges, libswscale's default range of grey depends on the filter.
            options = f"{self.width}:{self.height}:flags={self._flags}:in_range=pc:out_range=pc"
            self._chain, self._key = Chain(frame, [("scale", options), ("format", name)]), key
        return plane(self._chain.apply(frame), 0)
