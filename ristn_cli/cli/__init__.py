"""Command line: parse, call, show. The only package that knows typer and rich, or prints; one module a command."""

from importlib.metadata import version
from typing import Annotated

import typer

from ristn_cli.cli.ablate import ablate
from ristn_cli.cli.bench import bench
from ristn_cli.cli.compare import compare
from ristn_cli.cli.download_weights import download_weights
from ristn_cli.cli.evaluate import evaluate
from ristn_cli.cli.export_weights import export_weights
from ristn_cli.cli.info import info
from ristn_cli.cli.train import train
from ristn_cli.cli.upscale import upscale
from ristn_cli.cli.workers import RayCommand

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=RayCommand)(upscale)
for command in (info, compare, evaluate, bench, train, download_weights, export_weights, ablate):
    app.command()(command)


def show_version(is_asked: bool) -> None:
    """Print the version and end."""
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
