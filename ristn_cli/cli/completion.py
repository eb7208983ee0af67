"""Completes values in the shell: names of weights, recipes, codecs, presets, devices and precisions.

Does not import PyTorch, because the shell waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

import typer

Candidates = Iterator[tuple[str, str]]
"""Values, each with a description that zsh, fish and PowerShell show."""

NETWORKS = ("paper", "paper-2x2", "ristn", "ristn-lite-1")
"""Configurations without released weights."""

PRECISIONS = ("fp32", "fp16", "bf16")


def complete_models(incomplete: str) -> Candidates:
    """Complete `auto` and released weights."""
    yield from _starting(incomplete, [("auto", "chosen by how strongly the source is compressed")])
    yield from complete_weights(incomplete)


def complete_weights(incomplete: str) -> Candidates:
    """Complete released weights."""
    from ristn_cli.weights import RELEASES

    yield from _starting(incomplete, [(release.name, f"for {release.source} footage") for release in RELEASES.values()])


def complete_methods(incomplete: str) -> Candidates:
    """Complete the methods of `ristn evaluate`."""
    yield from _starting(incomplete, [("bicubic", "interpolation"), ("lanczos", "interpolation")])
    yield from complete_weights(incomplete)


def complete_networks(incomplete: str) -> Candidates:
    """Complete the networks of `ristn bench`."""
    yield from _starting(incomplete, [(name, "random weights") for name in NETWORKS])
    yield from complete_weights(incomplete)


def complete_recipes(incomplete: str) -> Candidates:
    """Complete the recipes of ristn."""
    names = sorted(file.name for file in resources.files("ristn_cli.training").joinpath("recipes").iterdir())
    yield from _starting(incomplete, [(name.removesuffix(".toml"), "") for name in names if name.endswith(".toml")])


def complete_codecs(incomplete: str) -> Candidates:
    """Complete `auto` and the available codecs."""
    from ristn_cli.video import CODECS

    found = [(codec.name, f"by {codec.encoder}") for codec in CODECS.values() if codec.is_available]
    yield from _starting(incomplete, [("auto", "h264, or hevc for 10-bit sources"), *found])


def complete_presets(context: typer.Context, incomplete: str) -> Candidates:
    """Complete the presets of the codec on the command line, if it has any."""
    from ristn_cli.video import CODECS
    from ristn_cli.video.codecs import X26X_PRESETS

    codec = CODECS.get(context.params.get("codec") or "auto")
    if codec is None or codec.has_presets:
        yield from _starting(incomplete, [(name, "") for name in X26X_PRESETS])


def complete_devices(incomplete: str) -> Candidates:
    """Complete kinds of devices. PyTorch is needed to know which of them this machine has."""
    yield from _starting(incomplete, [("auto", "the GPU if there is one"), ("cpu", ""), ("cuda", ""), ("mps", "")])


def complete_precisions(incomplete: str) -> Candidates:
    """Complete precisions."""
    yield from _starting(incomplete, [("auto", "the fastest on the device"), *((k, "") for k in PRECISIONS)])


def _starting(incomplete: str, candidates: Sequence[tuple[str, str]]) -> Candidates:
    return ((value, description) for value, description in candidates if value.startswith(incomplete))
