"""Records of the released weights. Reads no files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


class WeightsError(Exception):
    """Weights cannot be found, read, downloaded or verified. The message is one line: the cause, what was expected and
    what to do.
    """


@dataclass(frozen=True, kw_only=True)
class Release:
    """A released weights file.

    Attributes:
        name: name for `--model`.
        sha256: SHA-256 of the file in hexadecimal. A file with another one is never used.
        size: size of the file in bytes.
        config: key of `model.CONFIGS`.
        source: the kind of footage that the weights are trained for.
        metrics: metrics from the file's metadata that listings show.
        repository: repository on the Hub.
        revision: tag of this release in the repository.
    """

    name: str
    sha256: str
    size: int
    config: str
    source: Literal["clean", "compressed"] = "clean"
    metrics: Mapping[str, float] = field(default_factory=dict)
    repository: str
    revision: str

    @property
    def file_name(self) -> str:
        """Name of the file in `weights/` and in the repository."""
        return f"{self.name}.safetensors"


RELEASES = {
    release.name: release
    for release in (
        Release(
            name="ristn-lite",
            sha256="cab6135e64902fc25249b041879b352df14251157c8d9c617626e2ad42ba8ab2",
            size=1_623_300,
            config="ristn-lite",
            metrics={"psnr_y": 25.823, "temporal_gain": 0.9297},
            repository="ristn/ristn-lite",
            revision="v1",
        ),
        Release(
            name="ristn-lite-real",
            sha256="f2aa27f84424a975754bde935edf253f5192615b6c1cd219bb645956f2539506",
            size=1_624_892,
            config="ristn-lite",
            source="compressed",
            metrics={"psnr_y": 23.316, "temporal_gain": 0.1482},
            repository="ristn/ristn-lite-real",
            revision="v1",
        ),
    )
}


def find_release(name: str) -> Release:
    """Return the record of a release. Raises WeightsError if the name is unknown."""
    if name not in RELEASES:
        raise WeightsError(f"unknown weights {name!r}: expected one of {', '.join(RELEASES)}, or a .safetensors file")
    return RELEASES[name]
