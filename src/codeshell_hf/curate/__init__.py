"""Curation: sources -> languages -> signals -> rules -> duplicates -> Parquet, with a count for every drop."""

import os

# No progress bar beside ours, no telemetry. Daft reads both when it is imported.
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
os.environ.setdefault("DO_NOT_TRACK", "true")
