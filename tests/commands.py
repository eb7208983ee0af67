"""Programs that tests start."""

SHORT_PARTS = """
from ristn_cli.__main__ import main
from ristn_cli.inference.runtime import begin_joining

begin_joining()  # as `main` does, before what takes long to import
from ristn_cli.inference import plan

plan.PART_PIXELS, plan.SHORTEST_PART = 1, 6
main()
"""
"""The command, with parts of six frames."""
