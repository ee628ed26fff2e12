"""Exact duplicates, by the MD5 of their bytes. Only ids and digests are grouped; the text stays where it is."""

import daft
from daft import DataFrame, col


def find_exact_duplicates(documents: DataFrame) -> DataFrame:
    """Finds the documents that another one repeats.

    Args:
        documents: Columns `id` and `digest`.

    Returns:
        Column `id`: all but the first, by id, of each group of equal documents.
    """
    groups = documents.groupby("digest").agg(col("id").min().alias("first"), col("id").count().alias("copies"))
    repeated = groups.where(col("copies") > daft.lit(1)).select("digest", "first")
    return documents.join(repeated, on="digest").where(col("id") != col("first")).select("id")
