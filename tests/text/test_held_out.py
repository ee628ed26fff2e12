"""Which held-out documents are scored."""

from codeshell_hf.text.held_out import choose_evenly


def test_documents_are_taken_until_a_language_is_full() -> None:
    chosen = choose_evenly(["a", "a", "b", "a"], [60, 60, 90, 30], max_bytes_per_language=100)

    assert chosen == [0, 2, 3]
