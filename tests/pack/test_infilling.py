"""Rearranged documents keep their tokens and text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codeshell_hf.pack.infilling import place_cuts, rearrange_characters, rearrange_for_infilling
from tests.pack.common import SENTINELS


@given(st.lists(st.integers(0, 299), max_size=40), st.data(), st.booleans())
def test_rearranged_documents_give_back_the_original(
    tokens: list[int], data: st.DataObject, suffix_first: bool
) -> None:
    start = data.draw(st.integers(0, len(tokens)))
    end = data.draw(st.integers(start, len(tokens)))

    arranged = rearrange_for_infilling(
        np.array(tokens, np.int64), (start, end), suffix_first=suffix_first, sentinels=SENTINELS
    ).tolist()

    prefix_at, middle_at, suffix_at = (arranged.index(sentinel) for sentinel in SENTINELS)
    assert prefix_at == 0
    if suffix_first:
        suffix, rest = arranged[suffix_at + 1 : middle_at], arranged[middle_at + 1 :]
        assert suffix_at == 1
        assert rest + suffix == tokens
    else:
        prefix, suffix = arranged[1:suffix_at], arranged[suffix_at + 1 : middle_at]
        assert prefix + arranged[middle_at + 1 :] + suffix == tokens


def test_cuts_fall_at_every_place_of_a_document_equally_often() -> None:
    evenly = (np.arange(900) + 0.5) / 900

    places = [place_cuts((cut, cut), 8) for cut in evenly]

    # Before, between and behind eight tokens: nine places, so that a middle may also end with the document.
    assert np.unique(places, axis=0).tolist() == [[place, place] for place in range(9)]
    assert np.bincount([start for start, _ in places]).tolist() == [100] * 9


class Words:
    """Encodes pairs of letters as one id, so that a cut inside a pair takes two."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(value % 1000) + (chr(value // 1000) if value >= 1000 else "") for value in ids)

    def encode(self, text: str) -> list[int]:
        pairs = [text[place : place + 2] for place in range(0, len(text), 2)]
        return [ord(pair[0]) + (1000 * ord(pair[1]) if len(pair) > 1 else 0) for pair in pairs]


@given(st.text(alphabet="abcdefgh", min_size=1, max_size=40), st.data(), st.booleans())
def test_cuts_between_characters_keep_the_text_and_the_length(
    text: str, data: st.DataObject, suffix_first: bool
) -> None:
    codec = Words()
    tokens = np.array(codec.encode(text), np.int64)
    cuts = sorted([data.draw(st.floats(0, 0.999)), data.draw(st.floats(0, 0.999))])
    sentinels = (-1, -2, -3)

    found = rearrange_characters(tokens, (cuts[0], cuts[1]), codec, suffix_first=suffix_first, sentinels=sentinels)

    assert len(found) == len(tokens) + 3
    parts: dict[int, list[int]] = {}
    for value in found.tolist():
        if value < 0:
            held = parts.setdefault(value, [])
        else:
            held.append(value)
    suffix = codec.decode(parts[-3])
    if suffix_first:  # the middle follows the prefix without a sentinel
        assert text.startswith(codec.decode(parts[-2]))
        assert text[len(codec.decode(parts[-2])) :].startswith(suffix)
    else:
        before = codec.decode(parts[-1]) + codec.decode(parts[-2])
        assert text.startswith(before)
        assert text[len(before) :].startswith(suffix)
