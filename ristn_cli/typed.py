"""JSON and TOML that others may have written, read into dataclasses: every value of its kind, every number finite.

Files have a largest size and a deepest nesting. Whatever is wrong is a MalformedError of one line.

No library does it alone: msgspec ignores unknown keys of dataclasses, takes NaN and integers of any length, and its
messages do not name the wrong value.
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
"""Of a file: more than the manifest of a day's film."""

MOST_NESTED = 32
MOST_DIGITS = 20
LARGEST_INTEGER = 2**63 - 1
MOST_SHOWN = 60
"""Letters of a wrong value in a message."""

Opener = Callable[[str, int], int]
"""Opens a file by its name and flags, and gives its descriptor."""

DOT = re.compile(r"(?<!\.)\.(?!\.)")
"""Between the parts of a key. Rows of dots, as in comments, are none."""

FRACTION = re.compile(r"-?\d{1,40}(/[1-9]\d{0,39})?", re.ASCII)


class MalformedError(ValueError):
    """Data of another form than expected. One line: where, what was found, what was expected."""


def open_at_once(name: str, flags: int) -> int:
    """An `opener` for Python's `open` that does not wait for a pipe to be written to."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: Path, *, most_bytes: int = MOST_BYTES, opener: Opener = open_at_once) -> str:
    """The text of a regular file, opened by `opener`.

    Raises:
        MalformedError: it is no regular file, is larger than `most_bytes`, or is no UTF-8.
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
    """What a JSON file holds; see `parse_json`.

    Raises:
        MalformedError: as of `read_text` and `parse_json`; the message begins with `path`.
        OSError: it cannot be read.
    """
    text = read_text(path, most_bytes=most_bytes, opener=opener)
    try:
        return parse_json(text)
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}") from error


def parse_json(text: str) -> Any:
    """What JSON text holds, in which every number is finite, and an integer has at most MOST_DIGITS digits.

    Raises:
        MalformedError: it is no JSON, nested too deeply, or holds another number.
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
    """The tables of TOML text. Numbers may be any, and are checked by `build`.

    Raises:
        MalformedError: it is no TOML, or nested too deeply.
    """
    # The time of tomllib grows with the square of a dotted key's length: minutes for one of 100 kB.
    if any(len(DOT.findall(piece)) > MOST_NESTED for piece in re.split(r"[={,\n]", text)):
        raise _too_deep()
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # numbers of too many digits, too
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
    """`value`, of plain dictionaries, lists and scalars, as a `kind`.

    Args:
        kind: a dataclass, `bool`, `int`, `float`, `str`, `Fraction` (from text such as `1/25`), a Literal, a list,
            tuple or dictionary of these, one of them or None, or `Any`.
        value: what was parsed.
        where: what the message begins with.

    Raises:
        MalformedError: a value of another kind or range, an unknown or a missing key, or what the dataclass itself
            refuses by a ValueError.
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
    """A value in a message: of containers only the kind, of what is long only the beginning."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "a number out of range"  # of too many digits to be shown
    return _brief(repr(value))


def _brief(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
