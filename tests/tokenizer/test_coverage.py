"""What entries are worth, counted by hand."""

import pytest

from tests.tokenizer.texts import CHINESE, ROOT, draw
from tokenizer.characters import list_rows, spell, write_bytes
from tokenizer.coverage import count_sources, list_longest, measure_coverage, measure_parity, measure_use
from tokenizer.merged import extend
from tokenizer.settings import Continuation
from tokenizer.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def small() -> Vocabulary:
    """The 256 bytes, their merges to a few characters, then two words: a, é and Chinese ones."""
    spelled = spell(Vocabulary(()), "一丁αé爱狗")
    characters = dict.fromkeys(merge for merges in spelled.values() for merge in merges)
    words = [(write_bytes(left), write_bytes(right)) for left, right in (("爱", "狗"), ("爱狗", "爱狗"), ("a", "b"))]
    return Vocabulary((*characters, *words))


def test_characters_are_covered_by_script(small: Vocabulary) -> None:
    covered = measure_coverage(small.make_backend())

    assert covered["GB/T 2312 level 1"] == round(4 / 3755, 4)
    assert covered["GB/T 2312 level 2"] == 0
    assert covered["Greek"] == round(1 / 56, 4)
    assert covered["Chinese punctuation"] == 0


def test_rows_of_the_standard_are_those_that_are_printed() -> None:
    assert list_rows(56, 56)[:5] == tuple("亍丌兀丐廿")
    assert list_rows(87, 87)[-1] == "齄"
    assert list_rows(55, 55)[-5:] == ("\ufffd",) * 5


def test_use_is_the_share_of_entries_that_texts_are_cut_into(small: Vocabulary) -> None:
    backend, bytes_alone = small.make_backend(["<end>"]), Vocabulary(()).make_backend()
    used = backend.encode("爱狗ab丁").ids

    use = measure_use(backend, used, bytes_alone)

    new = len(small) - 256
    assert len(used) == 3
    assert use["all"] == round(3 / len(small), 4)
    assert use["not of the base"] == round(3 / new, 4)
    # 一 丁 爱 狗, 爱狗 and 爱狗爱狗; of them 丁 and 爱狗 are used.
    assert use["Chinese"] == round(2 / 6, 4)


def test_the_longest_entries_are_told(small: Vocabulary) -> None:
    assert list_longest(small.make_backend())[:2] == ["爱狗爱狗", "爱狗"]


def test_parity_is_a_ratio_of_tokens() -> None:
    assert measure_parity({"zh": 30, "en": 40, "c": 5}, [("zh", "en")]) == {"zh/en": 0.75}


def test_entries_are_counted_by_the_sources_that_use_them(small: Vocabulary) -> None:
    samples = {"one": draw(["爱狗 爱", "plain"]), "two": draw(["爱狗，丁"]), "three": draw(["爱"])}

    held = count_sources(small.make_backend(["<end>"]), samples, first=small.tokens.index(write_bytes("爱")))

    # 爱 in two, 爱狗 in two; in none what lies between them, 狗, 爱狗爱狗 and ab.
    assert held["2"] == 2
    assert held["0"] == len(small) - small.tokens.index(write_bytes("爱")) - 2


def test_entries_built_on_one_hand_are_used_by_two_others() -> None:
    texts = [(ROOT / "tests" / "data" / "chinese" / name).read_text("utf-8") for name in ("jieba.txt", "pypinyin.txt")]
    bytes_alone = Vocabulary(())

    few = extend(bytes_alone, {"docs": draw(CHINESE)}, Continuation(), size=1000).make_backend()
    many = extend(bytes_alone, {"docs": draw(CHINESE)}, Continuation(floor="chinese"), size=5000).make_backend()

    used = [index for text in texts for index in few.encode(text).ids]
    covered = measure_coverage(many)
    assert measure_use(few, used, bytes_alone.make_backend())["not of the base"] >= 0.6
    assert covered["GB/T 2312 level 1"] >= 3740 / 3755
    assert covered["Chinese punctuation"] == 1
