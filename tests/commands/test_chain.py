"""Which steps a system takes: in which order, what makes their inputs, and what is missing."""

from pathlib import Path

import pytest

from codeshell_hf.commands import chain as chains
from codeshell_hf.commands.chain import Chain, describe_chain, make_chain
from codeshell_hf.errors import DataError
from tests.commands.test_run import write_settings

SOURCES = [{"name": "own", "path": "data/own"}]
TOKENIZER = {"kind": "bpe", "vocab_size": 300, "sample_bytes": 1000}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the systems `one`, and `two`, which takes the tokenizer of `one`."""
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, "one", "curate", sources=SOURCES)
    read = [{"name": "documents", "path": "runs/one/curate"}]
    write_settings(tmp_path, "one", "tokenizer", sources=read, **TOKENIZER)
    write_settings(tmp_path, "one", "pack", documents="runs/one/curate", tokenizer="runs/one/tokenizer")
    write_settings(tmp_path, "two", "curate", sources=SOURCES)
    write_settings(tmp_path, "two", "pack", documents="runs/two/curate", tokenizer="runs/one/tokenizer")
    return tmp_path


def add_pretrain(home: Path, system: str, **values: object) -> None:
    """Settings of pretraining, on the system's own shards and those of `values`."""
    schedule = {"total_tokens": 64, "warmup_tokens": 0, "phases": [{"until_fraction": 1.0, "row_tokens": 16}]}
    write_settings(
        home, system, "pretrain", shards=f"runs/{system}/pack", tokenizer="runs/one/tokenizer", model={},
        batch={"global_tokens": 32, "micro_tokens": 32}, schedule=schedule, optimizer={"learning_rate": 1e-3}, **values,
    )  # fmt: skip


def make(system: str) -> Chain:
    return make_chain(system, [Path.cwd()], {}, sandbox=None)


def names(chain: Chain) -> list[str]:
    return [step.name for step in chain.steps]


def test_what_another_system_makes_is_made_first(home: Path) -> None:
    chain = make("two")

    assert names(chain) == ["one/curate", "one/tokenizer", "curate", "pack"]
    pack = chain.steps[-1]
    makers = {name: chain.find_maker(pack, path) for name, path in pack.inputs.items()}
    assert {name: maker and maker.name for name, maker in makers.items()} == {
        "documents": "curate",
        "tokenizer": "one/tokenizer",
    }
    (home / "runs" / "one" / "tokenizer").mkdir(parents=True)
    assert names(make("two")) == ["curate", "pack"], "what is there is taken as it is"


def test_a_file_with_a_name_of_its_own_is_a_step_where_another_reads_it(home: Path) -> None:
    talks = {"conversations": ["data/talks.jsonl"], "splits": ["train"], "tokenizer": "runs/one/tokenizer"}
    write_settings(home, "one", "pack-talks", **talks)
    write_settings(home, "one", "pack-unread", **talks)
    add_pretrain(home, "one", mixture=[{"shards": "runs/one/pack-talks", "share": 0.1}])

    chain = make("one")

    unread = "recipes/one/pack-unread.yaml"
    assert names(chain) == ["curate", "tokenizer", "pack", "pack-talks", "pretrain"]
    assert chain.left_out == [
        "not run, without settings in recipes/one: synthesize, sft, preferences, reward, rlhf, dpo, evaluate, publish",
        f"not run, since no stage reads runs/one/pack-unread: {unread} (codeshell pack {unread} runs it)",
    ]


def test_what_benchmarks_of_pretraining_read_is_an_input(home: Path) -> None:
    tasks = {"lines": {"profile": "line-completion-v1", "data": "nowhere/lines.jsonl"}}
    write_settings(home, "one", "evaluate-checkpoints", tasks=tasks)
    given = {"benchmarks": "recipes/one/evaluate-checkpoints.yaml", "exports": True, "every_steps": 1}
    add_pretrain(home, "one", evaluation=given)

    with pytest.raises(DataError, match=r"pretrain reads nowhere/lines\.jsonl, which no stage makes"):
        make("one")

    (home / "nowhere").mkdir()
    (home / "nowhere" / "lines.jsonl").touch()
    assert make("one").left_out[1:] == ["run by pretrain: recipes/one/evaluate-checkpoints.yaml"]


def test_an_input_that_only_a_later_stage_makes_is_an_error(home: Path) -> None:
    write_settings(home, "one", "curate", sources=SOURCES, tokenizer="runs/one/tokenizer")

    with pytest.raises(DataError, match="curate reads runs/one/tokenizer, which tokenizer makes only later; add"):
        make("one")


def test_an_input_that_no_stage_makes_is_an_error_unless_it_is_there(home: Path) -> None:
    (home / "recipes" / "one" / "tokenizer.yaml").unlink()

    with pytest.raises(DataError, match="pack reads runs/one/tokenizer, which no stage makes; add the settings of"):
        make("one")

    (home / "runs" / "one" / "tokenizer").mkdir(parents=True)
    assert names(make("one")) == ["curate", "pack"]


def test_each_step_says_what_it_reads_from_whom_and_whether_it_is_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "data" / "own").mkdir(parents=True)
    monkeypatch.setattr(chains, "is_up_to_date", lambda stage, settings: stage.name != "tokenizer")

    lines = describe_chain(make("one"))

    assert lines[:13] == [
        "== curate (1 of 3): recipes/one/curate.yaml, whose settings are valid",
        "  reads sources.own: data/own, from outside, present",
        "  writes runs/one/curate: up to date",
        "  launch: in this process",
        "== tokenizer (2 of 3): recipes/one/tokenizer.yaml, whose settings are valid",
        "  reads sources.documents.path: runs/one/curate, from curate, missing",
        "  writes runs/one/tokenizer: to be run",
        "  launch: in this process",
        "== pack (3 of 3): recipes/one/pack.yaml, whose settings are valid",
        "  reads tokenizer: runs/one/tokenizer, from tokenizer, missing",
        "  reads documents: runs/one/curate, from curate, missing",
        "  writes runs/one/pack: to be run",
        "  launch: in this process",
    ]
