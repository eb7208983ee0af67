"""Scores of networks and other methods on benchmarks, as tables, pictures and reports."""
