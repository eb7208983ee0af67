"""Compares images or videos of one scene: an HTML page, a picture strip, a split-screen clip."""
