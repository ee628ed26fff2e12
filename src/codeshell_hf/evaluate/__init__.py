"""Evaluation: bits per byte, fill-in-the-middle, and the baselines that they are held against."""
