"""The `ristn` command, and `python -m ristn_cli`."""

import sys


def main() -> None:
    from ristn_cli.isolation import leave_working_folder

    leave_working_folder()  # before other imports
    import io

    from ristn_cli.engine.allocator import keep_memory, restart_without_tcache

    restart_without_tcache()  # repeats all imports, so only a few are above
    from ristn_cli.printable import install_hooks

    keep_memory()  # before any thread starts
    install_hooks()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr, because file names may not be valid text
    from ristn_cli.cli import app

    app(prog_name="ristn")  # whatever started it: the shell completes by this name


if __name__ == "__main__":
    main()
