"""`python -m ristn_cli`."""

from ristn_cli.cli import main

main()
