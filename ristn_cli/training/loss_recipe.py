"""The `[loss]` table of a recipe: loss terms in addition to the pixel error, and changes to the target."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """Targets and terms of the loss. All are off by default.

    The weights of `temporal` to `pattern` are relative to the pixel error. `features` and `adversarial` are shares: the
    gradient of the term at the network's last convolution is scaled to this share of the gradient norm of all other
    terms.

    Attributes:
        clean: strength of the target's filter against weak artefacts such as JPEG's, in 8-bit levels. Differences well
            above it are edges, which are kept. 0 for no filter.
        sharpen: amount of the unsharp mask on targets; 0 for none.
        sharpen_sigma: standard deviation of the mask's blur, in HR pixels.
        sharpen_threshold: the target is not sharpened where the mask is at most this many 8-bit levels, and fully
            sharpened from twice as many.
        sharpen_overshoot: how far a sharpened value may exceed the range of its 5x5 pixels, as a share of this range; 0
            for no limit.
        power: power of the Charbonnier error of pixels and of chroma. Below 1, uncertain edges become sharp instead of
            blurred.
        temporal: weight of the error of differences between consecutive frames.
        colour: weight of the error of each frame's mean colour.
        chroma: weight of the error of Cb and Cr, at three scales.
        gradient: weight of the error of spatial gradients, at three scales.
        direction: weight of gradients along edges of the target (jaggies), at three scales.
        pattern: weight of patterns of period 2 and 4 in flat areas.
        features: share of the distance between features of a pretrained network.
        feature_frames: frames of each window whose features are compared, drawn for each step. All frames would take
            longer than the rest of a step.
        adversarial: share of the adversarial term.
        adversarial_after: step of the stage from which the adversarial term applies. Before it, only the discriminator
            is trained.
        discriminator_channels: channels of the discriminator's first layers.
        discriminator_rate: learning rate of the discriminator.
        largest_offset: features and discriminator read frames cropped by 0 to this many HR pixels at the top and left,
            drawn for each step, so that their strides leave no grid.
    """

    clean: float = 0.0
    sharpen: float = 0.0
    sharpen_sigma: float = 2.0
    sharpen_threshold: float = 4.0
    sharpen_overshoot: float = 0.0
    power: float = 1.0
    temporal: float = 0.0
    colour: float = 0.0
    chroma: float = 0.0
    gradient: float = 0.0
    direction: float = 0.0
    pattern: float = 0.0
    features: float = 0.0
    feature_frames: int = 2
    adversarial: float = 0.0
    adversarial_after: int = 0
    discriminator_channels: int = 16
    discriminator_rate: float = 1e-4
    largest_offset: int = 7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} {value}: expected 0 or more")
        if not 0 < self.sharpen_sigma <= 8:
            raise ValueError(f"sharpen_sigma {self.sharpen_sigma}: expected more than 0 and at most 8")
        if not 0 < self.power <= 1:
            raise ValueError(f"power {self.power}: expected more than 0 and at most 1")
        for name in ("feature_frames", "discriminator_channels", "largest_offset", "adversarial_after"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} {getattr(self, name)}: expected a whole number")
        if min(self.feature_frames, self.discriminator_channels) < 1:
            raise ValueError("feature_frames and discriminator_channels: expected 1 or more")

    @property
    def is_balanced(self) -> bool:
        """Whether any term has a share instead of a weight."""
        return self.features > 0 or self.adversarial > 0

    def check(self, *, frames: int, size: int) -> None:
        """Check that windows are long and large enough for the terms.

        Args:
            frames: frames per window.
            size: side of a window in HR pixels, without `loss_border`.

        Raises:
            ValueError: a window is too short or too small. The message names the field.
        """
        for name, least in (("temporal", 2), ("adversarial", 3)):
            if getattr(self, name) and frames < least:
                raise ValueError(f"{name} needs windows of at least {least} frames, not {frames}")
        needed = 16 + (self.largest_offset if self.is_balanced else 0)
        if (self.is_balanced or self.pattern) and size < needed:
            raise ValueError(
                f"pattern, features and adversarial need {needed} HR pixels within loss_border, not {size}; "
                "increase patch"
            )
