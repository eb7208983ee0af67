"""What is installed: the versions of Python and of every package that ristn needs. Imports none of them itself."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MODULES = {"ffmpeg-python": "ffmpeg", "pillow": "PIL"}
"""Names that packages are imported by, where they differ by more than a hyphen."""

OPTIONAL = ("ray", "matplotlib")
"""Packages of extras whose versions matter to a bug report."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, as a sentence, and what to do about it.

    `is_fatal`: nothing can be upscaled before it is cured.
    """

    text: str
    cure: str
    is_fatal: bool = False


@dataclass(frozen=True)
class Section:
    """What was found of one kind: labels with values, and problems."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def check_installation() -> Section:
    """Versions; a problem for each package that is missing, of a version that ristn does not support, or broken."""
    section = Section("Versions")
    section.facts.append(("ristn", version("ristn")))
    section.facts.append(("Python", f"{platform.python_version()} ({platform.python_implementation()})"))
    section.facts.append(("system", platform.platform()))
    for requirement in find_requirements():
        found, problem = check_package(requirement)
        section.facts.append((requirement.name, found))
        if problem is not None:
            section.problems.append(problem)
    for name in OPTIONAL:
        section.facts.append((name, installed_version(name) or "not installed (optional)"))
    return section


def find_requirements() -> Iterator[Requirement]:
    """What an installation without extras needs on this machine."""
    for text in requires("ristn") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def check_package(requirement: Requirement) -> tuple[str, Problem | None]:
    """The version of a package in words, and what is wrong with it."""
    name, install = requirement.name, f'pip install "{requirement.name}{requirement.specifier}"'
    found = installed_version(name)
    if found is None:
        return "not installed", Problem(f"The package {name} is not installed.", f"run {install}", is_fatal=True)
    if not requirement.specifier.contains(found, prereleases=True):
        text = f"{name} {found} is not supported; ristn needs {name}{requirement.specifier}."
        return found, Problem(text, f"run {install}")
    try:
        importlib.import_module(MODULES.get(canonicalize_name(name), name.replace("-", "_")))
    except Exception as error:  # a broken library raises anything
        text = f"{name} {found} cannot be imported: {without_folders(error)}."
        return found, Problem(text, f"run pip install --force-reinstall {name}=={found}", is_fatal=True)
    return found, None


def installed_version(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def without_folders(error: object) -> str:
    """The first line of an error with the names of files, but not of the folders that they are in."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"(?:[A-Za-z]:)?[^\s'\"]*[/\\]", "", line)[:200].rstrip(".")
