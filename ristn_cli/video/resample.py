"""Pictures to another size: libswscale, a plane at a time. Knows no colour, no files."""

from __future__ import annotations

from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ristn_cli.video.convert import plane
from ristn_cli.video.filters import Chain
from ristn_cli.video.types import Image

# Lanczos with three lobes for pictures; bicubic for transparency, whose hard edges Lanczos would ring around.
IMAGE_FLAGS = "lanczos+accurate_rnd+full_chroma_int+bitexact"
ALPHA_FLAGS = "bicubic+accurate_rnd+bitexact"


class Resampler:
    """To `width` x `height` by libswscale, which lowers the cutoff where it shrinks, so that nothing aliases.

    Each channel goes by itself as a grey picture: libswscale would take RGB through YUV. `flags` are libswscale's.
    """

    def __init__(self, width: int, height: int, flags: str = IMAGE_FLAGS) -> None:
        self.width, self.height = width, height
        self._flags = flags
        self._key: tuple[object, ...] | None = None
        self._chain: Chain | None = None

    def apply(self, image: Image) -> Image:
        """An image (H, W, 3) or a plane (H, W) in the new size; itself when it has that already.

        float32 goes through 16 bits, as everything does within libswscale.
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
            # Both ranges are stated: libswscale takes grey for limited range here and full range there.
            options = f"{self.width}:{self.height}:flags={self._flags}:in_range=pc:out_range=pc"
            self._chain, self._key = Chain(frame, [("scale", options), ("format", name)]), key
        return plane(self._chain.apply(frame), 0)
