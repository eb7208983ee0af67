"""Keeps code that lies in the working folder from being run, by this process and by those that it starts.

Imports next to nothing: until `leave_working_folder` has run, anything might be taken from that folder.
"""

# pathlib might be taken from there too.
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
"""Environment variables that list folders to search for programs, libraries and headers. An empty entry stands for the
working folder, and a relative one begins there."""

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder that this package is imported from."""


def leave_working_folder() -> None:
    """Take the working folder out of this program's search paths and environment; call it before other imports.

    `python -m` and `python -c` search it before everything else, and so does an empty entry of `PYTHONPATH`. If the
    package itself comes from there, as in a checkout, it stays importable.
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
    """Let the processes that this one starts have the environment that `isolate` makes of this one's."""
    isolated = isolate(os.environ)
    for name in os.environ.keys() - isolated.keys():
        del os.environ[name]
    os.environ.update(isolated)


def isolate(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a program, and Python above all, finds nothing in the folder that it is started in.

    Args:
        environment: its entries stay, except for the empty and relative folders of search paths.
    """
    isolated = dict(environment)
    for name in SEARCHED:
        if name in isolated:
            # An empty PATH stands for the working folder too.
            isolated[name] = os.pathsep.join(absolute(isolated[name])) or (os.defpath if name == "PATH" else "")
    modules = absolute(isolated.get("PYTHONPATH", ""))
    if HOME not in modules and not is_installed():
        modules.insert(0, HOME)
    isolated["PYTHONPATH"] = os.pathsep.join(modules)
    isolated["PYTHONSAFEPATH"] = "1"
    if os.name == "nt":
        # Windows would look for a program in the working folder before PATH.
        isolated["NoDefaultCurrentDirectoryInExePath"] = "1"
    return {name: value for name, value in isolated.items() if value or name not in (*SEARCHED, "PYTHONPATH")}


def absolute(folders: str) -> list[str]:
    """The absolute ones of a list of folders as environment variables have them."""
    return [folder for folder in folders.split(os.pathsep) if os.path.isabs(folder.strip('"'))]


def is_installed() -> bool:
    """Whether every Python of this installation finds the package without being told where it is."""
    return os.path.basename(HOME) in ("site-packages", "dist-packages")
