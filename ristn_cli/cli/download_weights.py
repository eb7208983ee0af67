"""`ristn download-weights`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TransferSpeedColumn

from ristn_cli.cli.arguments import DebugOption
from ristn_cli.cli.completion import complete_weights
from ristn_cli.cli.effects import Given
from ristn_cli.cli.terminal import PlainColumn, errors, reported_errors, show

if TYPE_CHECKING:
    from ristn_cli.weights import Release


def download_weights(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Names of released weights.", autocompletion=complete_weights),
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Download all released weights.")] = False,
    list_them: Annotated[
        bool, typer.Option("--list", help="Show the released weights and where they are on this machine.")
    ] = False,
    folder: Annotated[Path | None, typer.Option("--dir", help="Folder for the files. Default: the cache.")] = None,
    repository: Annotated[
        str | None,
        typer.Option("--repo", metavar="OWNER/NAME", help="Repository on the Hub. Default: that of the release."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: that of the release.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Download again, and replace existing files.")] = False,
    debug: DebugOption = False,
) -> None:
    """Download released weights from the Hugging Face Hub and verify their SHA-256.

    Files that exist are only verified, without a network. Interrupted downloads are resumed. HF_ENDPOINT, HF_TOKEN,
    HF_HOME and HF_HUB_OFFLINE are respected.
    """
    if list_them + all_of_them + bool(names) != 1:
        raise typer.BadParameter("expected names of weights, --all, or --list")
    if list_them:
        Given.of(context).refuse_all_but("--list does not download", "list_them", "debug")
    with reported_errors(debug):
        from ristn_cli.weights import RELEASES, cached_file, find_release, locate, obtain

        if list_them:
            for release in RELEASES.values():
                show(describe_release(release))
            return
        # Check all names before the first download.
        for release in RELEASES.values() if all_of_them else [find_release(name, revision) for name in names or []]:
            path = None if force or folder or repository or revision else locate(release)
            if path is None:
                with transfer_bar() as bar:
                    task = bar.add_task(release.file_name, total=release.size)
                    path = obtain(
                        release,
                        cached_file(release) if folder is None else folder / release.file_name,
                        repository=repository,
                        revision=revision,
                        force=force,
                        overwrite=force or folder is None,
                        on_progress=partial(show_received, bar, task),
                    )
            show(f"{release.name}: {path}, SHA-256 {release.sha256[:12]}...")


def show_received(bar: Progress, task: TaskID, received: int) -> None:
    """Set the bar to the bytes received."""
    bar.update(task, completed=received)


def transfer_bar() -> Progress:
    """Make a progress bar of bytes on stderr, shown only on a terminal."""
    return Progress(
        PlainColumn(),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )


def describe_release(release: Release) -> str:
    """Describe released weights and their path on this machine in one line."""
    from ristn_cli.weights import locate

    here = locate(release) or "not on this machine"
    figures = "".join(f", {name} {value:.2f} dB" for name, value in release.metrics.items())
    return (
        f"{release.name}: for {release.source} footage, network {release.config}{figures}; {release.size:,} bytes, "
        f"SHA-256 {release.sha256}; {release.repository} at {release.revision}; {here}"
    )
