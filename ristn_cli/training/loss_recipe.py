"""What a stage of training minimises beside the error of its pixels: the fields of a recipe's `[loss]` table."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """Targets and terms of the loss; the defaults leave all of them out.

    The weights of `temporal` to `pattern` are relative to the error of the pixels. `features` and `adversarial` are
    shares: the gradient of the term at the network's last convolution has this share of the norm that the gradient of
    all terms before has, whatever the network.

    Attributes:
        clean: targets are cleaned of weak artefacts, such as JPEG's beside edges: differences well above this many
            8-bit levels count as edges, which are kept; 0 for none.
        sharpen: amount of the unsharp mask that sharpens the cleaned targets; 0 for none.
        sharpen_sigma: standard deviation of the mask's blur, in HR pixels.
        sharpen_threshold: where the mask is at most this many 8-bit levels, the target is not sharpened; from twice as
            many on it is sharpened fully.
        temporal: weight of the error of the change from frame to frame.
        gradient: weight of the error of gradients, at three scales.
        direction: weight of gradients along the target's edges, at three scales: jags.
        pattern: weight of patterns of period 2 and 4 in flat areas.
        features: share of the distance in the features of a pretrained network.
        feature_frames: frames of each window, drawn anew for each step, whose features are compared: those of all
            frames would take longer than the rest of a step.
        adversarial: share of the adversarial term.
        adversarial_after: step of the stage from which the adversarial term is applied; before, the discriminator
            alone learns.
        discriminator_channels: of the discriminator's first layers.
        discriminator_rate: learning rate of the discriminator.
        largest_offset: features and discriminator see the frames without 0 to this many HR pixels at the top and on
            the left, drawn anew for each step, so that their strides leave no grid.
    """

    clean: float = 0.0
    sharpen: float = 0.0
    sharpen_sigma: float = 2.0
    sharpen_threshold: float = 4.0
    temporal: float = 0.0
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
                raise ValueError(f"{name} {value}: expected at least 0")
        if not 0 < self.sharpen_sigma <= 8:
            raise ValueError(f"sharpen_sigma {self.sharpen_sigma}: expected more than 0 and at most 8")
        for name in ("feature_frames", "discriminator_channels", "largest_offset", "adversarial_after"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} {getattr(self, name)}: expected a whole number")
        if min(self.feature_frames, self.discriminator_channels) < 1:
            raise ValueError("feature_frames and discriminator_channels are at least 1")

    @property
    def is_balanced(self) -> bool:
        """Whether a term has a share instead of a weight."""
        return self.features > 0 or self.adversarial > 0

    def check(self, *, frames: int, size: int) -> None:
        """Refuse terms that windows are too short or too small for.

        Args:
            frames: of a window.
            size: HR pixels of a window's side, without the border that does not count.

        Raises:
            ValueError: the message names the field.
        """
        for name, least in (("temporal", 2), ("adversarial", 3)):
            if getattr(self, name) and frames < least:
                raise ValueError(f"{name} needs windows of at least {least} frames, not {frames}")
        needed = 16 + (self.largest_offset if self.is_balanced else 0)
        if (self.is_balanced or self.pattern) and size < needed:
            raise ValueError(
                f"pattern, features and adversarial need {needed} HR pixels within loss_border, not {size}: "
                "make patch larger"
            )
