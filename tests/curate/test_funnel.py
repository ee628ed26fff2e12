"""Every document has one verdict, the table adds up, and a run that was killed goes on."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeshell_hf.curate.settings import Perplexity, RepeatedText, Selection
from codeshell_hf.errors import DataError
from codeshell_hf.text.documents import read_documents
from tests.curate.toy_corpus import BAD, GOOD, NO_RULES, run, write_files


def test_every_fault_falls_under_its_own_name(tmp_path: Path) -> None:
    good = {"area.py": GOOD, "long.md": "prose " * 400, "run": "#!/bin/sh\necho hello to everyone\n"}
    folder = write_files(tmp_path / "in", good | {name: text for name, (text, _) in BAD.items()})
    (folder / "loop").symlink_to(folder)

    funnel = run(folder, tmp_path / "out").funnel

    kept = {row["id"]: row for row in read_documents(tmp_path / "out", columns=["id", "language", "text", "split"])}
    assert sorted(kept) == ["source/area.py", "source/long.md", "source/run"]
    assert kept["source/run"]["language"] == "shell"
    assert kept["source/area.py"]["text"] == GOOD
    expected = Counter([*(reason for _, reason in BAD.values()), "link"])
    assert dict(funnel.reasons()) == expected
    assert funnel.counts()["documents_before"] == len(kept) + sum(expected.values())


def test_rules_that_are_off_drop_nothing(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {name: text for name, (text, _) in BAD.items()})

    funnel = run(folder, tmp_path / "out", rules=NO_RULES).funnel

    assert {reason for reason, _ in funnel.reasons()} == {
        "empty",
        "too-large",
        "unknown-language",
        "not-text",
        "lfs-pointer",
    }


def test_small_languages_fall_as_a_whole(tmp_path: Path) -> None:
    files = {f"f{place}.py": f"def function_{place}():\n    return {place}\n" for place in range(9)}
    folder = write_files(tmp_path / "in", files | {"one.rb": "puts 'hello to all'\n"})

    funnel = run(folder, tmp_path / "out", near_duplicates=None, min_language_bytes=100).funnel

    assert dict(funnel.reasons()) == {"small-language": 1}
    assert funnel.documents["ruby", "small-language"] == 1


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,6}\.(py|c|md|json|xyz|ipynb|tar|html)", fullmatch=True),
        st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))),
        min_size=1,
        max_size=12,
    )
)
def test_kept_and_dropped_add_up_whatever_the_files_hold(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    place = tmp_path_factory.mktemp("property")
    folder = write_files(place / "in", files | {"good.py": GOOD})

    counts = run(folder, place / "out").funnel.counts()

    notebooks = sum(name.endswith("ipynb") for name in files)
    assert len(files) + 1 <= counts["documents_before"] <= len(files) + 1 + notebooks
    assert counts["documents_after"] + sum(counts["dropped"].values()) == counts["documents_before"]
    assert counts["documents_after"] == len(list(read_documents(place / "out", columns=["id"])))
    for row in counts["languages"]:
        assert row["documents_after"] + sum(row["dropped"].values()) == row["documents_before"]
    assert sum(row["bytes_before"] for row in counts["languages"]) == counts["bytes_before"]


def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    files = {f"f{index:02d}.py": f"def function_{index}():\n    return 'value {index}'\n" for index in range(20)}
    folder = write_files(tmp_path / "in", files)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(folder, whole)

    class Killed(Exception):
        pass

    killed_at = []
    for step in ("measure", "exact duplicates", "near duplicates", "inspect", "write"):

        def kill(name: str, done: int, total: int, step: str = step) -> None:
            if name == step and done == total:
                killed_at.append(name)
                raise Killed

        with pytest.raises(Killed):
            run(folder, broken, on_progress=kill)
    run(folder, broken)

    assert killed_at == ["measure", "exact duplicates", "near duplicates", "inspect", "write"]
    for name in ("documents/part-00000.parquet", "duplicates.parquet", "dropped.parquet", "funnel.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert sorted(path.name for path in broken.iterdir()) == [
        *("documents", "dropped.parquet", "duplicates.parquet", "funnel.json")
    ]


def test_another_threshold_measures_nothing_again_and_a_changed_file_its_part_alone(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "b.py": "def b():\n    return 'another one'\n"})
    run(folder, tmp_path / "out")
    measured = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.measured" / "measured").iterdir()}

    with pytest.raises(DataError, match="few-letters 2"):
        run(folder, tmp_path / "out", rules=NO_RULES.model_copy(update={"min_letter_fraction": 0.99}))
    assert {path: path.stat().st_mtime_ns for path in measured} == measured
    (folder / "area.py").write_text(GOOD * 2)
    run(folder, tmp_path / "out2")
    run(folder, tmp_path / "out")
    assert len(list((tmp_path / "out.measured" / "measured").glob("*.parquet"))) == 2


def test_repeated_paragraphs_are_removed_and_what_is_nothing_else_falls(tmp_path: Path) -> None:
    licence = "# Permission is granted to nobody at all, whatever they may do with it.\n# " + "Words " * 12
    files = {f"f{place}.py": f"{licence}\n\ndef f{place}():\n    return '{'xyz' * place}'\n" for place in range(6)}
    folder = write_files(tmp_path / "in", files | {"only.py": f"{licence}\n"})

    outcome = run(
        folder,
        tmp_path / "out",
        near_duplicates=None,
        repeated_text=RepeatedText(piece="paragraph", min_documents=5, min_bytes=60, min_left=10),
    )

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert len(texts) == 6
    assert not any("Permission" in text for text in texts.values())
    assert texts["source/f1.py"] == "def f1():\n    return 'xyz'\n"
    assert dict(outcome.funnel.reasons()) == {"repeated-text": 1}
    assert outcome.funnel.written["python", "kept"] < outcome.funnel.bytes["python", "kept"]


def test_the_highest_perplexity_of_each_language_falls(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return 3.14 * radius ** {n}\n" for n in range(19)}
    odd = "zq = lambda wv: [~kk @ jj for kk, jj in vv[::7] if not (yy ^ 0b1)]\n"
    folder = write_files(tmp_path / "in", files | {"odd.py": odd, "one.sh": "echo the only one\n"})
    options = Perplexity(keep_fraction=0.95, order=3, sample_bytes=10_000, max_characters=4000)

    outcome = run(folder, tmp_path / "out", near_duplicates=None, perplexity=options)

    assert dict(outcome.funnel.reasons()) == {"high-perplexity": 1}
    rows = read_documents(tmp_path / "out", columns=["id", "perplexity"])
    kept = {row["id"]: row["perplexity"] or 0.0 for row in rows}
    assert "source/odd.py" not in kept
    assert all(value > 1 for value in kept.values())
    assert isinstance(cuts := outcome.measures["perplexity_cuts"], dict)
    assert cuts.keys() == {"python", "shell"}
    given = options.model_copy(update={"model": tmp_path / "out" / "ngrams.arpa"})
    again = run(folder, tmp_path / "again", near_duplicates=None, perplexity=given)
    assert again.funnel.counts() == outcome.funnel.counts()


def test_selection_takes_as_many_tokens_as_it_may(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return radius ** {n}\n" for n in range(20)}
    folder = write_files(tmp_path / "in", files)

    first = run(folder, tmp_path / "a", near_duplicates=None, selection=Selection(max_tokens=50, by="random")).funnel
    same = run(folder, tmp_path / "b", near_duplicates=None, selection=Selection(max_tokens=50, by="random")).funnel
    other = run(folder, tmp_path / "c", near_duplicates=None, selection=Selection(max_tokens=50, by="random", seed=1))

    assert first.counts() == same.counts()
    assert 44 <= first.counts()["tokens_after"] <= 50
    assert first.counts()["dropped"] == {"not-selected": 20 - first.counts()["documents_after"]}
    kept = [{row["id"] for row in read_documents(tmp_path / name, columns=["id"])} for name in "abc"]
    assert kept[0] == kept[1] != kept[2]
    assert other.steps[-1] == ("selection", len(kept[2]))


def test_selection_keeps_the_shares_of_languages(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return radius ** {n}\n" for n in range(40)}
    files |= {f"f{n:02d}.sh": f"#!/bin/sh\necho the area of {n} is {n * n}\n" for n in range(20)}
    folder = write_files(tmp_path / "in", files)

    def count(name: str, selection: Selection | None) -> dict[str, int]:
        rows = run(folder, tmp_path / name, near_duplicates=None, selection=selection).funnel.counts()["languages"]
        return {row["language"]: row["tokens_after"] for row in rows}

    whole = count("all", None)
    half = count("half", Selection(max_tokens=sum(whole.values()) // 2, by="random"))
    assert whole.keys() == {"python", "shell"}
    for language, tokens in whole.items():
        assert 0.4 <= half[language] / tokens <= 0.5


def test_bad_folders_and_empty_results_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which is not a folder; name one that exists"):
        run(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file was found in"):
        run(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"none of 1 documents is left \(unknown-language 1\); loosen the rules"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match=r"run codeshell curate first"):
        list(read_documents(tmp_path, columns=["id"]))


@pytest.mark.slow
def test_a_hundred_thousand_empty_files_are_a_hundred_thousand_reasons(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD})
    for place in range(100_000):
        if place % 1000 == 0:
            inner = folder / f"d{place // 1000:03d}"
            inner.mkdir()
        (inner / f"{place}.py").touch()

    counts = run(folder, tmp_path / "out").funnel.counts()

    assert counts["dropped"] == {"empty": 100_000}
    assert counts["documents_after"] == 1


def test_documents_carry_where_they_come_from_and_their_cluster(tmp_path: Path) -> None:
    body = "".join(f"    total_{n} = radius * {n} + offset\n" for n in range(40))
    files = {
        "a.py": f"def first(radius, offset):\n{body}",
        "b.py": f"def second(radius, offset):\n{body}",
        "c.py": GOOD,
    }
    folder = write_files(tmp_path / "in", files)

    run(folder, tmp_path / "out", source={"licence": "MIT"})

    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "documents").to_pylist()}
    assert rows.keys() == {"source/a.py", "source/c.py"}
    assert rows["source/a.py"]["cluster"] == "source/a.py"
    assert rows["source/a.py"]["cluster_size"] == 2
    assert rows["source/c.py"]["cluster"] is None
    assert rows["source/c.py"]["licence"] == "MIT"
    assert pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist() == [
        {"id": "source/b.py", "cluster": "source/a.py", "kind": "near"}
    ]


def test_equal_documents_are_kept_where_repositories_are_to_be_joined(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"one/a.py": GOOD, "two/a.py": GOOD})
    source = {"repository": "folder"}

    run(folder, tmp_path / "each", source=source, near_duplicates=None)
    run(folder, tmp_path / "all", source=source, near_duplicates=None, drops_exact_duplicates=False)

    each, every = (pq.read_table(tmp_path / name / "documents").to_pylist() for name in ("each", "all"))
    assert len(each) == 1
    assert [(row["repository"], row["path"]) for row in every] == [("one", "a.py"), ("two", "a.py")]
