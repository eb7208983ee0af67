"""Command line: parse, call, show. The only package that knows typer and rich, or prints; one module a command."""

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
from ristn_cli.inference.runtime import keep_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Upscale video 4x with RISTN, a Residual Invertible Spatio-Temporal Network.",
)
app.command(cls=RayCommand)(upscale)
for command in (info, compare, evaluate, bench, train, download_weights, export_weights, ablate):
    app.command()(command)


def main() -> None:
    """Entry point of the `ristn` command."""
    keep_memory()  # before any thread
    app()
