"""Which held-out documents are scored."""

from codeshell_hf.text.held_out import choose_evenly


def test_each_language_gets_documents_up_to_its_limit_in_order() -> None:
    languages = ["python", "c", "python", "python", "python", "c"]
    sizes = [40, 90, 50, 20, 10, 11]

    chosen = choose_evenly(languages, sizes, max_bytes_per_language=100)

    # python: 40, 90, not 110, 100 exactly; c: 90, not 101
    assert chosen == [0, 1, 2, 4]


def test_nothing_fits_a_limit_of_nothing() -> None:
    assert choose_evenly(["c", "c"], [1, 2], max_bytes_per_language=0) == []
