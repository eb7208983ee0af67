"""Prevents this process and its children from running code in the working folder.

Imports almost nothing, because any import before `leave_working_folder` could come from that folder.
"""

# pathlib could come from the working folder, too.
# ruff: noqa: PTH100, PTH109, PTH117, PTH118, PTH119, PTH120

import os
import sys
from collections.abc import Mapping

SEARCHED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "COMPILER_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
)
"""Environment variables with lists of folders for programs, libraries and headers. An empty entry stands for the
working folder, and relative entries start there.
"""

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder from which this package is imported."""


def leave_working_folder() -> None:
    """Remove the working folder from this program's search paths and environment. Call it before other imports.

    `python -m` and `python -c` search it first, as does an empty entry of `PYTHONPATH`. If the package is in the
    working folder, as in a checkout, it stays importable.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]
    needed = (HOME, os.path.dirname(os.__file__))
    for entry in (os.environ.get("PYTHONPATH") or HOME).split(os.pathsep):
        reached = os.path.normpath(os.path.join(here, entry))
        if not os.path.isabs(entry) and reached in sys.path and reached not in needed:
            sys.path.remove(reached)
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]
    if HOME not in sys.path and not is_installed():
        sys.path.insert(0, HOME)
    isolate_children()


def isolate_children() -> None:
    """Give child processes the environment that `isolate` returns."""
    isolated = isolate(os.environ)
    for name in os.environ.keys() - isolated.keys():
        del os.environ[name]
    os.environ.update(isolated)


def isolate(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which programs, especially Python, load nothing from their working folder.

    Args:
        environment: the base; empty and relative entries of search paths are removed.
    """
    isolated = dict(environment)
    for name in SEARCHED:
        if name in isolated:
            # An empty PATH also stands for the working folder.
            isolated[name] = os.pathsep.join(absolute(isolated[name])) or (os.defpath if name == "PATH" else "")
    modules = absolute(isolated.get("PYTHONPATH", ""))
    if HOME not in modules and not is_installed():
        modules.insert(0, HOME)
    isolated["PYTHONPATH"] = os.pathsep.join(modules)
    isolated["PYTHONSAFEPATH"] = "1"
    if os.name == "nt":
        # Windows searches the working folder for programs before PATH.
        isolated["NoDefaultCurrentDirectoryInExePath"] = "1"
    return {name: value for name, value in isolated.items() if value or name not in (*SEARCHED, "PYTHONPATH")}


def absolute(folders: str) -> list[str]:
    """Return the absolute folders in an environment variable."""
    return [folder for folder in folders.split(os.pathsep) if os.path.isabs(folder.strip('"'))]


def is_installed() -> bool:
    """Return whether every Python of this installation finds the package without further search paths."""
    return os.path.basename(HOME) in ("site-packages", "dist-packages")
