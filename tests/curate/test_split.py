"""Splits are decided by content."""

from codeshell_hf.curate.split import choose_split


def test_splits_are_decided_by_content_alone() -> None:
    digests = [f"{number:032x}" for number in range(5000)]

    held_out = sum(choose_split(digest, 0.1) == "held-out" for digest in digests)

    # A binomial of 5,000 x 0.1 leaves 430 to 570 once in 1,000 tries.
    assert 430 < held_out < 570
    assert {choose_split(digest, 0.0) for digest in digests} == {"train"}
