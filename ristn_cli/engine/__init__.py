"""The engine upscales images to 4x in windows and tiles on one device. Does not read or write files."""
