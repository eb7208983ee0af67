"""The `ristn` command, and `python -m ristn_cli`."""

from ristn_cli.inference.runtime import begin_joining, keep_memory


def main() -> None:
    """Entry point of the `ristn` command."""
    begin_joining()
    keep_memory()  # before any thread
    from ristn_cli.cli import app

    app()


if __name__ == "__main__":
    main()
