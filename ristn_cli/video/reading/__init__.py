"""Frames out of files, at their own times."""
