"""Paths of this machine are found in settings and replaced, the longest first."""

import sysconfig
from pathlib import Path

from codeshell_hf.manifest import Manifest
from codeshell_hf.publish.private_paths import hide_paths, list_private_paths


def test_paths_of_settings_and_of_the_interpreter_get_placeholders() -> None:
    settings = {
        "shards": "/data/one/shards",
        "sources": [{"path": "/data/two"}, {"path": "here/three"}, {"name": "/data/not-a-path"}],
        "nested": {"files": ["/data/four.jsonl", 4]},
        "root": "/data",  # a folder below the root says nothing
    }
    manifests = {"curate": Manifest("curate", "f", {}, settings, "c")}

    paths = list_private_paths(manifests, {Path("/data/one"): ".", Path("/"): "root"})

    own = {path: placeholder for path, placeholder in paths.items() if path.startswith("/data")}
    assert own == {
        "/data/one/shards": ".../shards",
        "/data/two": ".../two",
        "/data/four.jsonl": ".../four.jsonl",
        "/data/one": ".",
    }
    assert paths[sysconfig.get_paths()["purelib"]].startswith("${")
    assert "/" not in paths
    assert [len(path) for path in paths] == sorted(map(len, paths), reverse=True)


def test_a_path_is_replaced_before_the_folder_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    names = ("manifests/a.json", "README.md", "index.html", "tokenizer.json", "notes.txt")
    for name in names:
        (tmp_path / name).write_text("/data/one/shards and /data/one/x")

    hide_paths(
        tmp_path,
        list_private_paths(
            {"pack": Manifest("pack", "f", {}, {"in": "/data/one/shards"}, "c")}, {Path("/data/one"): "."}
        ),
    )

    texts = {name: (tmp_path / name).read_text() for name in names}
    assert set(map(texts.get, names[:3])) == {".../shards and ./x"}
    assert texts["tokenizer.json"] == texts["notes.txt"] == "/data/one/shards and /data/one/x"
