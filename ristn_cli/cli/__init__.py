"""The command line: parses arguments and prints. The only package that uses Typer and Rich. One module per command."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ristn_cli.cli.bench import bench
from ristn_cli.cli.compare import compare
from ristn_cli.cli.doctor import doctor
from ristn_cli.cli.download_weights import download_weights
from ristn_cli.cli.evaluate import evaluate
from ristn_cli.cli.help_groups import GroupedCommand
from ristn_cli.cli.info import info
from ristn_cli.cli.old_spellings import EvaluateCommand
from ristn_cli.cli.preview import preview
from ristn_cli.cli.train import train
from ristn_cli.cli.upscale import upscale
from ristn_cli.printable import printable

USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]
"""Newer versions of Typer contain their own Click, so this class has no fixed import path."""


@contextmanager
def plain_usage_errors() -> Iterator[None]:
    """Escape control characters in usage errors, which quote file names, while the context is active."""
    try:
        yield
    except USAGE_ERROR as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # its message is the help, with line breaks
            error.message = printable(error.message)
        raise


class PlainGroup(TyperGroup):
    """The group of commands, with escaped usage errors."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options before the command."""
        with plain_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse the command's arguments and run it."""
        with plain_usage_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=GroupedCommand)(upscale)
app.command()(info)
app.command()(preview)
app.command()(compare)
app.command(cls=EvaluateCommand)(evaluate)
app.command()(bench)
app.command()(train)
app.command()(download_weights)
app.command()(doctor)


def show_version(is_asked: bool) -> None:
    """Print the version and exit."""
    if is_asked:
        typer.echo(f"ristn {version('ristn')}")
        raise typer.Exit


@app.callback()
def about(
    is_asked: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Upscale video 4x with RISTN, a Residual Invertible Spatio-Temporal Network."""
