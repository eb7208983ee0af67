"""The `ristn` command, and `python -m ristn_cli`."""

import sys


def main() -> None:
    """Entry point of the `ristn` command."""
    from ristn_cli.isolation import leave_working_folder

    leave_working_folder()  # before other imports
    import io

    from ristn_cli.engine.allocator import keep_memory, restart_without_tcache

    restart_without_tcache()  # what was imported before is imported again
    from ristn_cli.printable import install_hooks

    keep_memory()  # before any thread
    install_hooks()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a name need not be text
    from ristn_cli.cli import app

    app(prog_name="ristn")  # whatever started it: the shell completes by this name


if __name__ == "__main__":
    main()
