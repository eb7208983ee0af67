"""Mux the final file: encoded frames with all other streams of the source, and verify it."""
