"""The split of curated documents into training and held-out ones."""

import hashlib


def choose_split(digest: str, held_out_fraction: float) -> str:
    """Chooses "held-out" or "train" from the hexadecimal MD5 of a document, so that copies stay together."""
    # Hashed once more, so that the split is independent of other uses of the digest.
    uniform = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], "big") / 2**64
    return "held-out" if uniform < held_out_fraction else "train"
