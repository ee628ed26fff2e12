"""The regressor of quality learns, and selects."""

import json
import shutil
import sysconfig
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.quality_scores import SIDES, Assessment
from codeshell_hf.curate.regressor import Regressor, fit
from codeshell_hf.curate.settings import Quality, Selection
from codeshell_hf.errors import CheckpointError, DataError
from codeshell_hf.text.documents import read_documents
from tests.curate.toy_corpus import GOOD, run, write_files

QUALITY = Quality(
    max_tokens=48, epochs=12, batch_documents=16, learning_rate=2e-3, held_out_fraction=0.2, sample_documents=60
)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are offline, which the client takes for loopback as well."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A regressor that has learned to tell files with comments from files without."""
    texts = [f"value_{n} = {n}\n" * 3 if n % 2 else f"# comment {n}\n# more words\n# and more\n" for n in range(160)]
    folder = tmp_path_factory.mktemp("quality")
    return folder, fit(
        texts,
        [Assessment(1.0, 1.0, 5.0) if n % 2 else Assessment(4.0, 4.0, 0.0) for n in range(160)],
        folder,
        QUALITY,
        "float32",
    )


def test_a_regressor_learns_and_is_loaded_as_any_model(trained: tuple[Path, dict[str, float]]) -> None:
    folder, measures = trained
    regressor = Regressor(str(folder), max_tokens=48, precision="float32")

    poor, good = regressor.score(["value_7 = 7\n" * 3, "# comment 9\n# more words\n# and more\n"], batch_documents=2)

    assert (measures["training_documents"], measures["held_out_documents"]) == (128, 32), "none is in both"
    assert measures["pearson"] > 0.9
    assert measures["spearman"] > 0.8
    assert measures["mean_squared_error"] < measures["variance_of_scores"]
    assert poor.score < 2.5 < good.score
    poor_sides, good_sides = poor[1:3], good[1:3]  # correctness rises, readability falls
    assert (poor_sides[0] or 0) < 2.5 < (good_sides[0] or 0), "the sides are learned, each for itself"
    assert (poor_sides[1] or 0) > 2.5 > (good_sides[1] or 0)
    assert json.loads((folder / "quality.json").read_text()) == measures
    again = Regressor(str(folder), max_tokens=48, precision="float32").score(
        ["value_7 = 7\n" * 3] * 3, batch_documents=2
    )
    assert [*map(tuple, again)] == [pytest.approx(tuple(poor), abs=1e-4)] * 3, "padding and batches change nothing"


def test_before_it_has_learnt_it_predicts_the_mean(tmp_path: Path) -> None:
    """From zero, a short training would leave all documents below any threshold."""
    texts = [f"value_{n} = {n}\n" for n in range(80)]
    scores = [Assessment(3.0 + n % 2, 2.0, 1.0, 4.0, 5.0) for n in range(80)]
    fit(texts, scores, tmp_path, QUALITY.model_copy(update={"learning_rate": 1e-9, "epochs": 1}), "float32")

    (found,) = Regressor(str(tmp_path), max_tokens=48, precision="float32").score(["x = 1\n"], batch_documents=1)

    assert [*found] == pytest.approx([3.5, 2.0, 1.0, 4.0, 5.0], abs=0.3)


def test_too_few_documents_and_wrong_models_are_named(trained: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 annotated documents are too few to train on; annotate 40 or more"):
        fit(["a"] * 3, [Assessment(1.0)] * 3, tmp_path, QUALITY, "float32")
    with pytest.raises(CheckpointError, match=r"cannot be loaded as a quality regressor"):
        Regressor(str(tmp_path / "none"), max_tokens=48, precision="float32")
    shutil.copytree(trained[0], tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises((CheckpointError, RuntimeError), match=r"has 2 outputs|ignore_mismatched_sizes"):
        Regressor(str(tmp_path / "two"), max_tokens=48, precision="float32")


@pytest.mark.slow
def test_the_funnel_annotates_trains_scores_and_selects(tmp_path: Path) -> None:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    files = {path.name: path.read_bytes()[:4000] for path in sorted(stdlib.glob("*.py"))[:70]}
    folder = write_files(tmp_path / "in", {**files, "area.py": GOOD})

    outcome = run(
        folder,
        tmp_path / "out",
        near_duplicates=None,
        quality=QUALITY,
        selection=Selection(max_tokens=9_000, by="quality"),
    )

    rows = list(read_documents(tmp_path / "out", columns=["id", "quality", "tokens"]))
    measures = outcome.measures["quality"]
    assert isinstance(measures, dict)
    assert measures["annotator"] == "static"
    assert measures["held_out_documents"] == 12
    annotated = pq.read_table(tmp_path / "out" / "quality" / "annotations.parquet").to_pylist()
    assert len(annotated) == 60
    assert all(row[name] is not None for row in annotated for name in ("quality", *SIDES))
    assert 8_000 < sum(row["tokens"] for row in rows) <= 9_000
    dropped = outcome.funnel.counts()["dropped"]["not-selected"]
    assert dropped + len(rows) == outcome.steps[-2][1]
    min_score = min(row["quality"] or 0.0 for row in rows) - 1e-4
    given = QUALITY.model_copy(update={"model": str(tmp_path / "out" / "quality"), "min_score": min_score})
    again = run(folder, tmp_path / "again", near_duplicates=None, quality=given)
    assert {row["id"] for row in rows} <= {row["id"] for row in read_documents(tmp_path / "again", columns=["id"])}
    assert again.funnel.counts()["dropped"]["low-quality"] > 0


def test_static_scores_need_no_model(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "poor.py": "x=eval(y)\n" * 9})

    run(folder, tmp_path / "out", near_duplicates=None, quality=Quality(model="static"))

    [file] = (tmp_path / "out" / "documents").glob("*.parquet")
    rows = {row["id"]: row for row in pq.read_table(file, columns=["id", "quality", *SIDES]).to_pylist()}
    for name in ("quality", "correctness", "readability", "security", "value"):
        poor, good = rows["source/poor.py"][name], rows["source/area.py"][name]
        assert poor is not None
        assert good is not None
        assert poor < good if name == "quality" else poor <= good, name
