"""The engine: images in, images at 4x out, in windows and tiles on one device. Knows no files."""
