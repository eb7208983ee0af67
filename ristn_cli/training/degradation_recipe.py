"""The `[degradations]` table of a recipe: which degradations windows have, how often and how strong. Imports no
encoder.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class DegradationRecipe:
    """Share of the windows that have each degradation, among the windows that are not clean. All default to 0.

    The functions are in `ristn_cli.training.degradations`. A window may have several of the first six, which are
    applied before compression, and at most one of `strong`, `twice` and `dvd`. `compression_share` of `[data]` applies
    to windows without any of these three.

    Attributes:
        low_light: sensor noise in low light.
        grain: film grain.
        chroma: shifted and blurred chroma.
        vhs: worn VHS tape.
        upscaled: soft frames, enlarged from a smaller size.
        sharpened: oversharpened frames with halos.
        strong: x264 at crf 28 to 40, or MPEG-4 or MPEG-2 of matching quality.
        twice: compressed, resized and compressed again.
        dvd: MPEG-2 at bit rates of DVDs, mostly interlaced and poorly deinterlaced.
        weakest: lowest strength, from 0 to 1. Each window draws uniformly from `weakest` to `strongest`.
        strongest: highest strength.
    """

    low_light: float = 0.0
    grain: float = 0.0
    chroma: float = 0.0
    vhs: float = 0.0
    upscaled: float = 0.0
    sharpened: float = 0.0
    strong: float = 0.0
    twice: float = 0.0
    dvd: float = 0.0
    weakest: float = 0.0
    strongest: float = 1.0

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} {share}: expected a share from 0 to 1")
        if not 0 <= self.weakest <= self.strongest <= 1:
            raise ValueError("weakest and strongest: expected 0 to 1, weakest <= strongest")
        if self.strong + self.twice + self.dvd > 1:
            raise ValueError("the sum of strong, twice and dvd is more than 1, but a window has at most one of them")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each degradation by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("weakest", "strongest")}
