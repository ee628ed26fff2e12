"""The byte-trigram baseline."""

import numpy as np

from codeshell_hf.evaluate.byte_trigram import ByteTrigram


def test_trigram_probabilities_add_up_to_one() -> None:
    model = ByteTrigram().train([b"abracadabra" * 20, bytes(range(256))])

    sums = model._smooth().sum(-1)

    assert np.allclose(sums, 1.0)


def test_trigram_learns_what_repeats() -> None:
    model = ByteTrigram().train([b"abcd" * 500])

    assert model.score([b"abcd" * 50]) < 0.3
    assert model.score([bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8))]) > 6
