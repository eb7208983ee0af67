"""Replaces old spellings of options by new ones, and makes a warning. To be removed in version 0.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from ristn_cli.cli.terminal import warn

WITH_VALUE: Mapping[str, tuple[str, str]] = {
    "--scale": ("--size", "{}x"),
    "--fit": ("--size", "fit:{}"),
    "--weights": ("--model", "{}"),
    "--suffix": ("--format", "{}"),
    "--stdout-format": ("--format", "{}"),
    "--rate": ("--images", "{}"),
}
"""Old options with a value: the new option, and the format of its value."""

FLAGS: Mapping[str, tuple[str, str]] = {
    "--no-audio": ("--drop", "audio"),
    "--no-subtitles": ("--drop", "subtitles"),
    "--drop-alpha": ("--drop", "alpha"),
    "--stills": ("--images", "stills"),
}
"""Old options without a value: the new option and its value."""

PIECES = ("--raw-size", "--raw-rate", "--raw-format", "--ray-threads")
"""Old options whose value is part of the value of `--raw` or `--ray-workers`."""

MAY_REPEAT = ("--drop",)

Given = list[tuple[str, str]]
"""Options with their values, in the order of the command line."""


def renew(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the arguments of `upscale` in new spelling, and a warning about old ones; None if there are none.

    Raises:
        typer.BadParameter: an old option lacks its value, or contradicts another option.
    """
    old, rest = _take_old([*WITH_VALUE, *PIECES], FLAGS, arguments)
    if not old:
        return list(arguments), None
    renewed: Given = []
    for name, value in old:
        if name in FLAGS:
            renewed.append(FLAGS[name])
        elif name in WITH_VALUE:
            option, form = WITH_VALUE[name]
            renewed.append((option, form.format(value)))
    pieces = {name: value for name, value in old if name in PIECES}
    renewed += _join_raw(pieces)
    if "--ray-threads" in pieces:
        workers, rest = _take_old(["--ray-workers"], (), rest)
        count = workers[-1][1] if workers else ""
        renewed.append(("--ray-workers", f"{count}x{pieces['--ray-threads']}"))
    _check_once(renewed, rest, [name for name, _ in old])
    words = [word for pair in _join_repeated(renewed) for word in pair]
    return [*words, *rest], _describe(old, renewed)


def renew_weights(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the arguments of `evaluate` with `--model` instead of `--weights`, and a warning as `renew` does."""
    old, rest = _take_old(["--weights"], (), arguments)
    renewed = [("--model", value) for _, value in old]
    return [*rest, *(word for pair in renewed for word in pair)], _describe(old, renewed) if old else None


def _take_old(named: Sequence[str], flags: Any, arguments: Sequence[str]) -> tuple[Given, list[str]]:
    """Return these options with their values, and all other arguments."""
    taken: Given = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word in flags:
            taken.append((word, ""))
        elif name in named:
            following = value if equals else next(words, None)
            if following is None:
                raise typer.BadParameter(f"Option '{name}' requires an argument.")
            taken.append((name, following))
        else:
            rest.append(word)
    return taken, rest


def _join_raw(pieces: Mapping[str, str]) -> Given:
    size, rate, pixels = (pieces.get(name) for name in ("--raw-size", "--raw-rate", "--raw-format"))
    if size is None:
        if rate is not None or pixels is not None:
            name = "--raw-format" if rate is None else "--raw-rate"
            raise typer.BadParameter(f"{name} has no effect without --raw-size; use --raw WxH@RATE:FORMAT")
        return []
    return [("--raw", size + (f"@{rate}" if rate else "") + (f":{pixels}" if pixels else ""))]


def _check_once(renewed: Given, rest: Sequence[str], old: Sequence[str]) -> None:
    """Refuse two values for one option."""
    options = [option for option, _ in renewed if option not in MAY_REPEAT]
    before_end = rest[: rest.index("--")] if "--" in rest else rest
    for option in options:
        is_in_rest = any(word.partition("=")[0] == option for word in before_end)
        if is_in_rest or options.count(option) > 1:
            raise typer.BadParameter(f"{', '.join(old)}: two options set {option}; use {option} once")


def _join_repeated(renewed: Given) -> Given:
    """Return the same options, with all values of `--drop` joined."""
    dropped = [value for option, value in renewed if option == "--drop"]
    others = [pair for pair in renewed if pair[0] != "--drop"]
    return [*others, ("--drop", ",".join(dropped))] if dropped else others


def _describe(old: Given, renewed: Given) -> str:
    before = " ".join(f"{name} {value}".rstrip() for name, value in old)
    now = " ".join(f"{option} {value}" for option, value in _join_repeated(renewed))
    return f"{before}: this old spelling will be removed in the next version; use {now}"


class EvaluateCommand(TyperCommand):
    """The command `evaluate`, which accepts an old spelling."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace old spellings and warn about them. `ctx` is a Context of Typer's Click."""
        renewed, line = renew_weights(args)
        if line is not None:
            warn(line)
        return super().parse_args(ctx, renewed)
