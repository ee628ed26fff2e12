"""Curation: sources -> languages -> signals -> rules -> duplicates -> Parquet, with a table that adds up."""

import os

# One bar, ours; and no call home. Both are read when daft is imported.
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
os.environ.setdefault("DO_NOT_TRACK", "true")
