"""A preview of a few moments of a video with all weights: images, a clip, time, file size and command."""
