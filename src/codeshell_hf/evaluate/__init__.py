"""Evaluation: benchmarks, bits per byte, fill-in-the-middle, and baselines."""
