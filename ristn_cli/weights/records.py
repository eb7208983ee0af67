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
            sha256="53a0745535b5c1534505efdc76a889206570f8c7e9e3b717bdb8565364798573",
            size=1_521_796,
            config="ristn-lite",
            metrics={"psnr_y": 26.2437, "temporal_gain": 1.2153},
            repository="ristn/ristn-lite",
            revision="v2",
        ),
        Release(
            name="ristn-lite-real",
            sha256="2997f08d31f28935014eea57e429807f8f1ec0343a1f351cc63e5c833dc29ddc",
            size=1_521_948,
            config="ristn-lite",
            source="compressed",
            metrics={"psnr_y": 23.4169, "temporal_gain": 0.2658},
            repository="ristn/ristn-lite-real",
            revision="v3",
        ),
        Release(
            name="ristn-lite-sharp",
            sha256="8b7e9dd8f2c0389de775dc3029f6e0a6c280025f91768352c2b24df575e3af81",
            size=1_521_828,
            config="ristn-lite",
            source="compressed",
            metrics={"psnr_y": 22.8572, "temporal_gain": 0.2079},
            repository="ristn/ristn-lite-sharp",
            revision="v1",
        ),
    )
}


DIAL = ("ristn-lite-real", "ristn-lite-sharp")
"""Released weights of one network, between which `--detail` interpolates: those at 0 and those at 1."""

REPLACED = {
    "8562e5beca123a12ca267b598e6d83100f8124a10d5026b105f5464064dc7c33": Release(
        name="ristn-lite",
        sha256="cab6135e64902fc25249b041879b352df14251157c8d9c617626e2ad42ba8ab2",
        size=1_623_300,
        config="ristn-lite-1",
        metrics={"psnr_y": 25.823, "temporal_gain": 0.9297},
        repository="ristn/ristn-lite",
        revision="v1",
    ),
    "1bd18dd0f8908f5e4ff32a47a6b509e782882d57fe16955b449d3f4db6188d12": Release(
        name="ristn-lite-real",
        sha256="f2aa27f84424a975754bde935edf253f5192615b6c1cd219bb645956f2539506",
        size=1_624_892,
        config="ristn-lite-1",
        source="compressed",
        metrics={"psnr_y": 23.316, "temporal_gain": 0.1482},
        repository="ristn/ristn-lite-real",
        revision="v1",
    ),
    "90db08c2367d42425fd8dfcceb43ec87df0c36b61b3e23180fc0e4440c3170ac": Release(
        name="ristn-lite-real",
        sha256="ae79494b42d37067a6dd9957873ba3589cfa67722c7c69c152cb92e536b6ef0c",
        size=1_623_860,
        config="ristn-lite-1",
        source="compressed",
        metrics={"psnr_y": 23.3177, "temporal_gain": 0.1443},
        repository="ristn/ristn-lite-real",
        revision="v2",
    ),
}
"""Earlier releases by the fingerprint of their network (`engine.upscaler.fingerprint`), which manifests contain."""


def find_release(name: str, revision: str | None = None) -> Release:
    """Return the record of a release. Raises WeightsError if the name is unknown.

    Args:
        name: name for `--model`.
        revision: revision in the repository. That of an earlier release selects its record.
    """
    if name not in RELEASES:
        raise WeightsError(f"unknown weights {name!r}: expected one of {', '.join(RELEASES)}, or a .safetensors file")
    earlier = (release for release in REPLACED.values() if (release.name, release.revision) == (name, revision))
    return next(earlier, RELEASES[name])
