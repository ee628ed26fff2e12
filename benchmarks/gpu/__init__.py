"""Measurements and checks on one GPU, in one command: see `benchmarks.gpu.__main__`."""
