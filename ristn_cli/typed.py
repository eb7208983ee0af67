"""Reads untrusted JSON and TOML into dataclasses, with checked types and finite numbers.

File size and nesting depth are limited. All errors are a MalformedError of one line. No library does this alone:
msgspec ignores unknown keys of dataclasses, accepts NaN and integers of any length, and does not name the wrong value.
"""

import json
import math
import os
import re
import stat
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

MOST_BYTES = 64 * 2**20
"""Largest file; larger than the manifest of a video of a day."""

MOST_NESTED = 32
MOST_DIGITS = 20
LARGEST_INTEGER = 2**63 - 1
MOST_SHOWN = 60
"""Characters of a wrong value in a message."""

Opener = Callable[[str, int], int]
"""Opens a file with a name and flags, and returns its descriptor."""

DOT = re.compile(r"(?<!\.)\.(?!\.)")
"""A dot between the parts of a key, but not in a row of dots as in comments."""

FRACTION = re.compile(r"-?\d{1,40}(/[1-9]\d{0,39})?", re.ASCII)


class MalformedError(ValueError):
    """Data has an unexpected form. The message is one line: where, what was found, what was expected."""


def open_at_once(name: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe; an `opener` for Python's `open`."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: Path, *, most_bytes: int = MOST_BYTES, opener: Opener = open_at_once) -> str:
    """Return the text of a regular file.

    Raises:
        MalformedError: it is not a regular file, is larger than `most_bytes`, or is not UTF-8.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise MalformedError(f"{path}: is not a regular file")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise MalformedError(f"{path}: is larger than {most_bytes // 2**20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{path}: is not text in UTF-8") from error


def read_json(path: Path, *, most_bytes: int = MOST_BYTES, opener: Opener = open_at_once) -> Any:
    """Return the content of a JSON file; see `parse_json`.

    Raises:
        MalformedError: see `read_text` and `parse_json`; the message starts with `path`.
        OSError: it cannot be read.
    """
    text = read_text(path, most_bytes=most_bytes, opener=opener)
    try:
        return parse_json(text)
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}") from error


def parse_json(text: str) -> Any:
    """Return the content of JSON text.

    Raises:
        MalformedError: it is not JSON, is nested too deeply, or contains a number that is not finite or has more than
            MOST_DIGITS digits.
    """
    try:
        value = json.loads(text, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_number)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON ({error})") from error
    _check_depth(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of TOML text. `build` checks the numbers.

    Raises:
        MalformedError: it is not TOML, or is nested too deeply.
    """
    # tomllib needs quadratic time for long dotted keys: minutes for 100 kB.
    if any(len(DOT.findall(piece)) > MOST_NESTED for piece in re.split(r"[={,\n]", text)):
        raise _too_deep()
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # includes numbers with too many digits
        raise MalformedError(f"not TOML: {error}") from error
    _check_depth(values)
    return values


def _parse_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        _refuse_number(text)
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse_number(text)
    return value


def _refuse_number(text: str) -> NoReturn:
    raise MalformedError(f"the number {_brief(text)} is out of range")


def _too_deep() -> MalformedError:
    return MalformedError(f"is nested more than {MOST_NESTED} levels deep")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_NESTED + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        if not below:
            return
        level = below
    raise _too_deep()


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Convert plain dictionaries, lists and scalars to a `kind`.

    Args:
        kind: a dataclass, `bool`, `int`, `float`, `str`, `Fraction` (from text such as `1/25`), a Literal, a list,
            tuple or dictionary of these, one of them or None, or `Any`.
        value: the parsed value.
        where: start of error messages.

    Raises:
        MalformedError: a value has another type or range, a key is unknown or missing, or the dataclass raises
            ValueError.
    """
    try:
        return _build(kind, value, "")
    except MalformedError as error:
        raise MalformedError(f"{where}: {error}" if where else str(error)) from error.__cause__


def _build(kind: Any, value: Any, name: str) -> Any:
    if kind is Any:
        return value
    if kind in SCALARS:
        return SCALARS[kind](value, name)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, name)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise _wrong(name, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (other,) = (argument for argument in arguments if argument is not type(None))
        return _build(other, value, name)
    if origin in (dict, Mapping):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(name, value, "a table")
        return {key: _build(arguments[1], each, _join(name, key)) for key, each in value.items()}
    if not isinstance(value, list | tuple):
        raise _wrong(name, value, "a list")
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _wrong(name, value, f"a list of {len(arguments)}")
        pairs = zip(arguments, value, strict=True)
        return tuple(_build(part, each, f"{name}[{k}]") for k, (part, each) in enumerate(pairs))
    return origin(_build(arguments[0], each, f"{name}[{k}]") for k, each in enumerate(value))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _build_dataclass(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(name, value, "a table")
    hints, known = _hints(kind), {item.name: item for item in fields(kind)}
    if unknown := [key for key in value if key not in known]:
        raise MalformedError(f"unknown key {_brief(repr(_join(name, str(unknown[0]))))}")
    for item in known.values():
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise MalformedError(f"{_join(name, item.name)} is missing")
    arguments = {key: _build(hints[key], each, _join(name, key)) for key, each in value.items()}
    try:
        return kind(**arguments)
    except ValueError as error:
        raise MalformedError(f"{name}: {error}" if name else str(error)) from error


def _build_bool(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _build_int(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_INTEGER:
        raise _wrong(name, value, "a whole number of at most 64 bits")
    return value


def _build_float(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, value, "a number")
    if isinstance(value, int):
        return float(_build_int(value, name))
    if not math.isfinite(value):
        raise _wrong(name, value, "a finite number")
    return value


def _build_str(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def _build_fraction(value: Any, name: str) -> Fraction:
    if not isinstance(value, str) or FRACTION.fullmatch(value) is None:
        raise _wrong(name, value, "a fraction as text, such as 1001/30000")
    return Fraction(value)


SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    bool: _build_bool,
    int: _build_int,
    float: _build_float,
    str: _build_str,
    Fraction: _build_fraction,
}


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _wrong(name: str, value: Any, expected: str) -> MalformedError:
    return MalformedError(f"{_brief(name) or 'the whole'} is {brief(value)}, expected {expected}")


def brief(value: Any) -> str:
    """Return a value for a message: only the type of containers, and the start of long text."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "a number out of range"  # has too many digits to show
    return _brief(repr(value))


def _brief(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
