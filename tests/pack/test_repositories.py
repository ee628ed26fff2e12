"""The files of a repository are joined in order, within a length, and of near repositories one stays."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack import encoding, repositories, shard_writer
from codeshell_hf.pack.marks import Marks, find_marks
from codeshell_hf.pack.repositories import (
    File,
    SpreadTask,
    find_near_repositories,
    join_files,
    join_repositories,
    order_files,
    spread_part,
)
from codeshell_hf.pack.settings import RepositorySettings
from codeshell_hf.pack.shard_writer import EncodedDocument, join_parts, make_header
from codeshell_hf.stages.stage import main
from codeshell_hf.text.shards import Header, ShardPart, TokenShards
from recipes import pack
from tests.pack.letters import Letters

MARKS = Marks(310, 311, ord("\n"))
ADDRESS = "https://github.com/owner/shop.git"


def make_file(path: str, text: str, language: str = "python") -> File:
    return File(path, language, "stack", text)


def show(document: EncodedDocument) -> str:
    """A document of letters as text, with its marks as the vocabulary writes them."""
    marks = {310: "<reponame>", 311: "<filename>"}
    return "".join(marks.get(token, chr(token)) for token in document.ids)


def join(files: Sequence[File], max_tokens: int = 1000) -> list[EncodedDocument]:
    return list(join_files(ADDRESS, files, Letters(), MARKS, max_tokens=max_tokens))


def test_files_stand_in_the_order_of_their_imports() -> None:
    files = [
        make_file("shop/till.py", "from . import cart\n"),
        make_file("shop/cart.py", "from .item import Item\n"),
        make_file("shop/item.py", "class Item: ...\n"),
        make_file("README.md", "# Shop\n", "markdown"),
        make_file("shop/cart.py", "a second file of one path\n"),
    ]

    paths = [file.path for file in order_files(files)]

    assert paths == ["README.md", "shop/item.py", "shop/cart.py", "shop/till.py"]
    assert order_files(files)[2].text == "from .item import Item\n"


def test_a_joined_document_names_its_repository_and_its_files() -> None:
    files = [make_file("a.py", "A = 1\n"), make_file("d/b.py", "B = 2\n")]

    (document,) = join(files)

    assert show(document) == "<reponame>owner/shop\n<filename>a.py\nA = 1\n<filename>d/b.py\nB = 2\n"
    assert document.id == f"{ADDRESS}#0"
    assert (document.language, document.source, document.bytes) == ("python", "stack", 12)


def test_documents_end_between_files_and_each_begins_with_the_name() -> None:
    files = [make_file(f"{name}.py", name * 20) for name in "abc"]
    head = "<reponame>owner/shop\n"

    documents = join(files, max_tokens=12 + 2 * 26)  # the name takes 12, each file 26

    assert [show(one) for one in documents] == [
        head + "<filename>a.py\n" + "a" * 20 + "<filename>b.py\n" + "b" * 20,
        head + "<filename>c.py\n" + "c" * 20,
    ]
    assert len(documents[0].ids) == 64
    assert [one.bytes for one in documents] == [40, 20]
    assert len(join(files, max_tokens=12 + 2 * 26 - 1)) == 3


def test_a_file_that_is_too_long_is_cut_and_names_its_path_again() -> None:
    files = [make_file("a.py", "x"), make_file("b.py", "".join(map(chr, range(97, 122))))]

    documents = join(files, max_tokens=28)  # 12 for the name, 6 for the path, 10 for text

    assert [show(one).rpartition("\n")[2] for one in documents] == ["x", "abcdefghij", "klmnopqrst", "uvwxy"]
    assert all("<filename>b.py\n" in show(one) for one in documents[1:])
    assert [one.bytes for one in documents] == [1, 10, 10, 5]
    assert max(len(one.ids) for one in documents) == 28


def test_the_language_is_that_of_most_bytes() -> None:
    files = [
        make_file("a.py", "x" * 5),
        make_file("b.js", "y" * 4, "javascript"),
        make_file("c.js", "z" * 3, "javascript"),
    ]

    assert join(files)[0].language == "javascript"


def test_a_name_without_room_for_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"and a\.py alone take 18 tokens; raise row_tokens"):
        join([make_file("a.py", "x")], max_tokens=18)


def test_marks_in_a_text_stay_text(tiny_tokenizer: CodeShellTokenizer) -> None:
    marks = find_marks(tiny_tokenizer)
    assert marks is not None
    text = 'print("<filename>x.py<reponame><fim_middle>")\n'

    (document,) = join_files(ADDRESS, [make_file("<filename>", text)], tiny_tokenizer, marks, max_tokens=1000)

    assert list(document.ids).count(marks.file) == 1
    assert list(document.ids).count(marks.repository) == 1
    assert tiny_tokenizer.decode(document.ids) == f"<reponame>owner/shop\n<filename><filename>\n{text}"


def test_a_line_break_in_a_path_does_not_end_it() -> None:
    assert show(join([make_file("a\nb.py", "x")])[0]) == "<reponame>owner/shop\n<filename>a b.py\nx"


def write_curated(folder: Path, rows: Sequence[tuple[str | None, str, str, str]], parts: int = 2) -> Path:
    """Writes curated documents: repository, path, text and split of each."""
    (folder / "documents").mkdir(parents=True)
    columns = ("repository", "path", "text", "split")
    for part in range(parts):
        mine = [
            dict[str, object](zip(columns, row, strict=True))
            | {"id": f"{row[0]}/{row[1]}", "source": "stack", "language": "python", "stars": None, "bytes": len(row[2])}
            for row in rows[part::parts]
        ]
        pq.write_table(pa.Table.from_pylist(mine), folder / "documents" / f"part-{part:05d}.parquet")
    return folder


def make_rows(repository: str, files: int, seed: int = 0) -> list[tuple[str | None, str, str, str]]:
    """Files of lines that no other repository has."""
    return [
        (
            repository,
            f"f{number}.py",
            "".join(f"value_{repository}_{seed}_{number}_{line} = {line}\n" for line in range(20)),
            "train",
        )
        for number in range(files)
    ]


def run_join(
    curated: Path, tokenizer: CodeShellTokenizer, folder: Path, workers: int = 1, **settings: object
) -> tuple[TokenShards, object]:
    tokenizer.save_pretrained(folder / "tokenizer")
    header = make_header(tokenizer, folder / "tokenizer")
    marks = find_marks(tokenizer)
    assert marks is not None
    (folder / "shards").mkdir()
    parts, counts = join_repositories(
        *(curated, "train", folder / "shards", header, marks),
        RepositorySettings.model_validate(settings),
        folder / "tokenizer",
        is_fast=False,
        workers=workers,
    )
    join_parts(parts, header, folder / "shards")
    return TokenShards(folder / "shards"), counts


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_files_of_all_parts_are_joined_by_repository(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(repositories, "GROUP_BYTES", 2000)  # several groups
    rows = [row for name in ("o/a", "o/b", "o/c") for row in make_rows(name, 3)]
    held_out = ("o/a", "held.py", "never = 1\n", "held-out")
    alone = (None, "alone.py", "none = 1\n", "train")
    curated = write_curated(tmp_path / "curate", [*rows, held_out, alone, *make_rows("o/single", 1)])

    shards, counts = run_join(curated, tiny_tokenizer, tmp_path, workers)

    assert len(list((tmp_path / "shards" / "scratch" / "spread").glob("*/*.parquet"))) > 2
    texts = sorted(tiny_tokenizer.decode(shards[number].tolist()) for number in range(len(shards)))
    expected = [
        f"<reponame>{name}\n" + "".join(f"<filename>{path}\n{text}" for _, path, text, _ in make_rows(name, 3))
        for name in ("o/a", "o/b", "o/c")
    ]
    assert texts == expected
    assert counts == repositories.RepositoryCounts(repositories=3, near=0)


def test_commits_and_issues_are_no_files(tmp_path: Path) -> None:
    curated = write_curated(
        tmp_path / "curate", [*make_rows("o/a", 2), ("o/a", "issues/1", "It breaks.\n", "train")], parts=1
    )
    part = curated / "documents" / "part-00000.parquet"
    table = pq.read_table(part)
    languages = pa.array(["python", "python", "github-issues"])
    pq.write_table(table.set_column(table.schema.get_field_index("language"), "language", languages), part)

    spread_part(SpreadTask(part, "train", tmp_path / "spread", 1))

    assert pq.read_table(tmp_path / "spread" / "00000.parquet")["path"].to_pylist() == ["f0.py", "f1.py"]


def test_a_fork_is_left_out_and_the_larger_stays(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    original = make_rows("o/a", 10)
    fork = [("fork/a", path, text, split) for _, path, text, split in original[:9]]
    curated = write_curated(tmp_path / "curate", [*original, *fork, *make_rows("o/b", 3)])

    shards, counts = run_join(curated, tiny_tokenizer, tmp_path)

    names = {tiny_tokenizer.decode(shards[number].tolist()).split("\n")[0] for number in range(len(shards))}
    assert names == {"<reponame>o/a", "<reponame>o/b"}
    assert counts == repositories.RepositoryCounts(repositories=3, near=1)

    (tmp_path / "both").mkdir()
    _, counts = run_join(curated, tiny_tokenizer, tmp_path / "both", min_jaccard=None)
    assert counts == repositories.RepositoryCounts(repositories=3, near=0)


@pytest.mark.parametrize(("shared", "is_near"), [(95, True), (85, True), (55, False), (0, False)])
def test_repositories_are_near_by_the_share_of_their_lines(shared: int, is_near: bool) -> None:
    from rensa import RMinHash

    one = [f"line number {number}" for number in range(1000)]
    # Jaccard is shared of 100: so many tenths of both, of the lines in either.
    common = round(2000 * shared / (100 + shared))
    other = one[:common] + [f"another line {number}" for number in range(1000 - common)]
    minima = RMinHash.from_token_sets([one, other], repositories.MINIMA, repositories.SEED)
    signatures = [
        repositories.Signature(name, stars, 10, minimum)
        for name, stars, minimum in zip(("a", "b"), (1, 5), minima, strict=True)
    ]

    # The minima estimate to within 0.04, so that 0.85 and 0.55 lie over three deviations from 0.7.
    assert find_near_repositories(signatures, 0.7) == (frozenset({"a"}) if is_near else frozenset())


def test_a_second_run_writes_only_what_is_missing(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    curated = write_curated(tmp_path / "curate", make_rows("o/a", 3))
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    header, marks = make_header(tiny_tokenizer, tmp_path / "tokenizer"), find_marks(tiny_tokenizer)
    assert marks is not None
    (tmp_path / "shards").mkdir()
    arguments = (curated, "train", tmp_path / "shards", header, marks, RepositorySettings(), tmp_path / "tokenizer")

    def digest() -> dict[str, tuple[str, int]]:
        files = sorted(path for path in (tmp_path / "shards").rglob("*") if path.is_file())
        return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}

    join_repositories(*arguments, is_fast=False, workers=1)
    first = digest()
    join_repositories(*arguments, is_fast=False, workers=1)

    assert digest() == first


def test_documents_without_repositories_are_refused(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    curated = write_curated(tmp_path / "curate", [(None, "a.py", "x = 1\n", "train"), *make_rows("o/a", 1)])

    with pytest.raises(DataError, match=r"has 2 files; curate sources that name repositories"):
        run_join(curated, tiny_tokenizer, tmp_path)


def test_the_stage_packs_files_and_repositories(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    rows = [row for name in ("o/a", "o/b") for row in make_rows(name, 4)]
    curated = write_curated(tmp_path / "curate", [*rows, ("o/a", "held.py", "never = 1\n", "held-out")])
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "pack.yaml").write_text(
        f"output: {tmp_path}/pack\ndocuments: {curated}\ntokenizer: {tmp_path}/tokenizer\n"
        "repositories: {row_tokens: 4096}\n"
    )

    assert main(pack.STAGE, [str(tmp_path / "pack.yaml")]) == 0

    shards = TokenShards(tmp_path / "pack" / "repositories" / "train")
    manifest = json.loads((tmp_path / "pack" / "manifest.json").read_text())
    assert len(TokenShards(tmp_path / "pack" / "train")) == 8
    assert manifest["counts"]["repositories"]["repositories"] == 2
    assert manifest["counts"]["repositories"]["tokens"] == shards.header.tokens
    assert max(len(shards[number]) for number in range(len(shards))) <= 4092
    assert shards.header.bytes == sum(len(text) for _, _, text, _ in rows)
    assert not (tmp_path / "pack" / "repositories" / "train" / "scratch").exists()


@pytest.mark.parametrize("killed_at", ["train", "held-out", "repositories/train", "records"])
def test_a_run_that_is_killed_while_it_joins_encodes_nothing_again(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    rows = [*make_rows("o/a", 4), ("o/a", "held.py", "never = 1\n", "held-out")]
    curated = write_curated(tmp_path / "curate", rows)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = tmp_path / "pack.yaml"
    settings.write_text(
        f"output: {tmp_path}/pack\ndocuments: {curated}\ntokenizer: {tmp_path}/tokenizer\n"
        "repositories: {row_tokens: 4096}\n"
    )
    write = shard_writer.write_contents

    def write_until_killed(parts: Sequence[ShardPart], header: Header, folder: Path) -> Header:
        if folder == tmp_path / "pack.partial" / killed_at:
            raise RuntimeError("killed")
        return write(parts, header, folder)

    def refuse(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "write_contents", write_until_killed)
        if killed_at == "records":
            patch.setattr(shard_writer, "drop_records", refuse)
        with pytest.raises(RuntimeError, match="killed"):
            main(pack.STAGE, [str(settings)])
    monkeypatch.setattr(encoding, "encode_part", refuse)
    if killed_at in ("repositories/train", "records"):
        monkeypatch.setattr(repositories, "join_group", refuse)
    assert main(pack.STAGE, [str(settings)]) == 0

    output = tmp_path / "pack"
    assert [len(TokenShards(output / name)) for name in ("train", "held-out", "repositories/train")] == [4, 1, 1]
    assert not list(output.rglob(".*"))
    assert not list(output.rglob("scratch"))
