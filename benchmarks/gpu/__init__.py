"""What one GPU has to answer about this project, in one command: see `benchmarks.gpu.__main__`."""
