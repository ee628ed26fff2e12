"""Benchmarks, one file per question: each checks correctness first, and measures its peer in the same run."""
