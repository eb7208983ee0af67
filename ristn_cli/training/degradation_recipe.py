"""The `[degradations]` table of a recipe: how often windows suffer what, and how strongly. Imports no encoder."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class DegradationRecipe:
    """Shares of the windows that do not stay clean; all are 0 unless a recipe says otherwise.

    The functions are in `ristn_cli.training.degradations`. A window may have several of the first six, which happen
    before it is compressed, and at most one of `strong`, `twice` and `dvd`. In the windows that have none of these
    three, `compression_share` of `[data]` decides.

    Attributes:
        low_light: noise of a sensor in low light.
        grain: film grain.
        chroma: chroma shifted and blurred.
        vhs: worn tape.
        upscaled: enlarged before, and so soft.
        sharpened: sharpened too much, with halos.
        strong: compressed by x264 at rate factors of 28 to 40, or by MPEG-4 or MPEG-2 at matching quality.
        twice: compressed, resized and compressed again.
        dvd: MPEG-2 at the rates of DVDs, mostly interlaced and badly deinterlaced.
        weakest: lowest strength, from 0 to 1; each window's is drawn evenly from here to `strongest`.
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
            raise ValueError("weakest and strongest are from 0 to 1, in order")
        if self.strong + self.twice + self.dvd > 1:
            raise ValueError("strong, twice and dvd are more than 1 together: a window has at most one of them")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each degradation by its name."""
        return {name: value for name, value in asdict(self).items() if name not in ("weakest", "strongest")}
