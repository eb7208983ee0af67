"""A few moments of a video by every choice there is, before hours are spent: pictures, a clip, time, size, command."""
