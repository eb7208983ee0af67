"""Frames into files: encoders, image sequences, raw streams."""
