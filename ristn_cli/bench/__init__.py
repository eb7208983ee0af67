"""Benchmarks of speed and memory, for the network alone and for a whole file."""
