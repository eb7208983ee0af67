"""Benchmarks of speed and memory, from the network alone to a whole file."""
