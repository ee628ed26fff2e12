"""The recipes: the nano chain in little, resumed, on two ranks, and called wrongly."""

import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from codeshell_hf.manifest import Manifest, read_manifest
from codeshell_hf.settings import read_yaml
from codeshell_hf.stages.stage import Stage, main
from tests.backends import BACKEND
from tests.hub import serve_hub, visit_hub
from tests.test_precision import AVX2
from tests.warm import start


def read_finished(folder: Path) -> Manifest:
    """The manifest of a stage that has ended."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_CORE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
STAGES = (
    *("curate", "tokenizer", "pack", "pretrain"),
    *("sft", "preferences", "reward", "rlhf", "dpo"),
    *("evaluate", "publish"),
)
# A model this small passes no test, so its pairs come from a file; what it does learn is in tests/recipes/.
MEASURE = "measure={prompts: [HOME/tasks.jsonl], per_prompt: 2, max_new_tokens: 4}"

BENCHMARKS = "recipes/nano/data/benchmarks"
TASKS = {
    "humaneval": {"profile": "humaneval-greedy-v1", "data": f"{BENCHMARKS}/humaneval.jsonl", "max_new_tokens": 4},
    "requests": {
        "profile": "harmful-requests-v1", "data": f"{BENCHMARKS}/requests.jsonl", "max_new_tokens": 4,
        "max_problems": 4,
    },
}  # fmt: skip

# Only sizes, places and data differ from recipes/nano.
SMALL = {
    "curate": [
        "held_out_fraction=0.2",
        "min_language_bytes=0",
        "rights.licences=null",
        "perplexity.order=2",
        "quality.sample_documents=60",
        "quality.max_tokens=24",
        "quality.epochs=1",
        "quality.min_score=null",
    ],
    "tokenizer": [
        "vocab_size=400",
        "sample_bytes=200000",
        "merged.trained_size=340",
        "merged.base_size=320",
        "merged.keep_first=10",
    ],
    "pack": ["perturbation={rate: 0.3}", "row_tokens=[64, 256]"],
    "pretrain": [
        "model.changes={vocab_size: 400, n_embd: 32, n_head: 4, n_layer: 2, n_inner: 64}",
        "batch.global_tokens=1024",
        "batch.micro_tokens=512",
        "schedule.total_tokens=20480",
        "schedule.warmup_tokens=2048",
        "schedule.phases=[{until_fraction: 0.9, row_tokens: 64}, {until_fraction: 1.0, row_tokens: 256}]",
        "checkpoint.every_steps=5",
        "evaluation.every_steps=8",
        "log_every_steps=5",
    ],
    "sft": [
        "conversations=[recipes/nano/data/conversations.jsonl, recipes/nano/data/tasks-held-out.jsonl]",
        "trainer.max_steps=2",
        "trainer.logging_steps=1",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
    ],
    "preferences": [
        "prompts=[HOME/tasks.jsonl]",
        "sample={per_prompt: 2, max_new_tokens: 4}",
        "files=[HOME/pairs.jsonl]",
        f"sandbox={BACKEND}",
    ],
    "reward": ["trainer.max_steps=2", "held_out_fraction=0.3"],
    "rlhf": [
        "prompts=[HOME/tasks.jsonl]",
        MEASURE,
        "trainer.max_steps=1",
        "trainer.max_completion_length=4",
        "max_idle_steps=null",
        "trainer.per_device_train_batch_size=8",
        f"sandbox={BACKEND}",
    ],
    "dpo": [MEASURE, "trainer.max_steps=2", "held_out_fraction=0.3", f"sandbox={BACKEND}"],
    # All tasks at once take a minute; each has a test of its own.
    "evaluate": [
        "bits_per_byte.window_tokens=128",
        "infilling={per_language: 4, max_prompt_tokens: 64}",
        "memorisation={documents: 4, prompt_characters: 40, reference_characters: 20}",
        f"tasks={json.dumps(TASKS)}",
        "harness={mmlu: recipes/nano/data/benchmarks/mmlu, max_items: 1}",
        f"sandbox={BACKEND}",
    ],
    "publish": ["samples=[{kind: completion, prompt: 'def f', max_new_tokens: 4}]"],
}


@pytest.fixture(autouse=True)
def fresh_accelerate() -> None:
    """Each stage has a process of its own; here they share one, and accelerate remembers."""
    AcceleratorState._reset_state(reset_partial_state=True)


def get_stage(name: str) -> Stage[Any]:
    stage: Stage[Any] = importlib.import_module(f"recipes.{name}").STAGE
    return stage


def write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    for source in sorted((ROOT / "src" / "codeshell_hf").rglob("*.py")):
        shutil.copy(source, folder / f"{source.parent.name}_{source.name}")
    for index in range(30):
        (folder / f"part{index}.c").write_text(f"int part_{index}(int x) {{\n    return x + {index};\n}}\n" * 4)
    (folder / "copy.py").write_text((folder / "codeshell_hf_errors.py").read_text())
    (folder / "binary.py").write_bytes(b"\0\1\2")
    tasks = (ROOT / "recipes" / "nano" / "data" / "tasks-held-out.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    (folder.parent / "tasks.jsonl").write_text("\n".join(tasks), encoding="utf-8")
    with (folder.parent / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for task in map(json.loads, tasks):
            question, answer = (turn["content"] for turn in task["messages"])
            file.write(json.dumps({"prompt": question, "chosen": answer, "rejected": "pass"}) + "\n")


def arguments(stage: str, home: Path) -> list[str]:
    """The nano recipe, with its places under `home` and its sizes small."""
    small = [option.replace("HOME", str(home)) for option in SMALL[stage]]
    given = [str(ROOT / "recipes" / "nano" / f"{stage}.yaml"), *small]

    def move(values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                move(value, f"{prefix}{key}.")
            elif "runs/nano/" in str(value) and not any(option.startswith(f"{prefix}{key}=") for option in small):
                moved = json.dumps(value).replace("runs/nano/", f"{home}/")
                given.append(f"{prefix}{key}={moved}")

    move(read_yaml(Path(given[0])), "")
    if stage == "curate":
        given.append(f"sources=[{{name: corpus, path: {home}/corpus}}]")
    return given


def run_stage(stage: str, home: Path, *more: str) -> int:
    return main(get_stage(stage), [*arguments(stage, home), *more])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole chain, run once; tests read it or copy it."""
    home = tmp_path_factory.mktemp("chain")
    write_corpus(home / "corpus")
    for stage in STAGES:
        AcceleratorState._reset_state(reset_partial_state=True)
        assert run_stage(stage, home) == 0, stage
    return home


pytestmark = pytest.mark.xdist_group("recipes")


def test_every_stage_leaves_a_whole_manifest(chain: Path) -> None:
    for stage in STAGES:
        manifest = read_finished(chain / stage)
        assert manifest is not None, stage
        assert manifest.counts, stage
        for name, digest in manifest.outputs.items():
            assert (chain / stage / name).exists()
            assert len(digest) == 64
    assert not list(chain.glob("*.partial"))
    assert not list(chain.glob("*.old"))


@pytest.mark.slow
def test_processes_pack_what_one_does(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "curate" / "documents").mkdir(parents=True)
    table = pq.read_table(chain / "curate" / "documents")
    for number in range(3):
        part = table.take(list(range(number, table.num_rows, 3)))
        pq.write_table(part, tmp_path / "curate" / "documents" / f"part-{number:05d}.parquet")
    more = [f"documents={tmp_path}/curate", "splits=[train]", "part_bytes=1"]

    assert run_stage("pack", chain, *more, f"output={tmp_path}/one", "workers=1") == 0
    assert run_stage("pack", chain, *more, f"output={tmp_path}/two", "workers=2") == 0

    written = [path.name for path in (tmp_path / "one" / "train").iterdir()]
    assert len([name for name in written if name.endswith(".ds")]) == 3
    for name in written:
        assert (tmp_path / "one" / "train" / name).read_bytes() == (tmp_path / "two" / "train" / name).read_bytes()


def test_chain_is_skipped_when_nothing_has_changed(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in STAGES:
        assert run_stage(stage, chain) == 0
        assert f"{stage}: nothing to do" in capsys.readouterr().out


def test_loss_falls_and_held_out_bits_fall(chain: Path) -> None:
    measures = read_finished(chain / "pretrain").measures

    assert measures["bits_per_byte_after"]["all"] < measures["bits_per_byte_before"]["all"] - 0.3
    log = [json.loads(line) for line in (chain / "pretrain" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 21))
    assert {entry["row_tokens"] for entry in log if "loss" in entry} == {64, 256}
    assert (chain / "pretrain" / "loss.svg").read_text().startswith("<svg")


def test_card_and_page_show_the_figures_of_the_manifests(chain: Path) -> None:
    card = (chain / "publish" / "model" / "README.md").read_text()
    page = (chain / "publish" / "index.html").read_text()
    curate, pretrain, evaluate = (read_finished(chain / stage) for stage in ("curate", "pretrain", "evaluate"))

    for text in (card, page):
        assert f"{curate.counts['documents_after']:,}" in text
        assert f"{pretrain.counts['tokens']:,}" in text
        assert f"{evaluate.measures['aligned']['bits_per_byte']['all']:.3f}" in text
        assert f"{evaluate.measures['byte_trigram_bits_per_byte']:.3f}" in text
        assert str(ROOT) not in text
        assert sys.prefix not in text
    assert "<td>exact-duplicate</td><td>1</td>" in page
    assert "<td>not-text</td><td>1</td>" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    from huggingface_hub import ModelCard

    metadata: Any = ModelCard(card).data
    assert metadata.license == "apache-2.0"
    assert (metadata.library_name, metadata.pipeline_tag) == ("transformers", "text-generation")
    assert [example["output"]["text"] for example in metadata.widget]
    assert (metadata.base_model, metadata.datasets) == (None, None), "none of the Hub was used"
    rlhf = read_finished(chain / "rlhf")
    count, share = rlhf.counts["prompts"], rlhf.counts["epochs"]
    said = f"{round(count * share)} of {count} prompts" if share < 1 else f"{count} prompts"
    assert f"| rlhf | {said}" in card
    assert "| dpo |" not in card, "which the published model does not come from"
    for name in ("date", "device", "repository"):
        assert rlhf.origin[name].partition("T")[0] in card
    assert (rlhf.origin["commit"] or "")[:12] in card
    assert "@misc{" in card
    values = {result.metric_type: result.metric_value for result in metadata.eval_results}
    assert values["bits_per_byte"] == evaluate.measures["aligned"]["bits_per_byte"]["all"]


class Tables(HTMLParser):
    """The cells of each table by its id, and the text of every element that has one."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.table: list[list[str]] | None = None
        self.open: list[str] = []
        self.in_cell = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        name = dict(attributes).get("id")
        if tag == "table" and name:
            self.table = self.tables[name] = []
        elif tag == "tr" and self.table is not None:
            self.table.append([])
        elif tag in ("td", "th") and self.table is not None:
            self.table[-1].append("")
            self.in_cell = True
        elif tag == "b" and name:
            self.open.append(name)
            self.texts[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False
        elif tag == "table":
            self.table = None
        elif tag == "b" and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.in_cell and self.table is not None:
            self.table[-1][-1] += data
        for name in self.open:
            self.texts[name] += data


def check_page(html: str, chain: Path) -> None:
    """Every figure in the page's tables and tiles, against the manifests."""
    page = Tables()
    page.feed(html)
    manifests = {stage: read_finished(chain / stage) for stage in STAGES[:-1]}
    curate, pack, evaluate = (manifests[stage] for stage in ("curate", "pack", "evaluate"))

    rows = {row[0]: row for row in page.tables["languages"][1:]}
    kept = [row for row in curate.counts["languages"] if row["documents_after"]]
    assert rows.keys() == {row["language"] for row in kept}
    for row in kept:
        shown = rows[row["language"]]
        assert shown[1:3] == [f"{row['documents_before']:,}", f"{row['bytes_before'] / 1e6:.2f}"]
        assert shown[4:6] == [f"{row['documents_after']:,}", f"{row['bytes_after'] / 1e6:.2f}"]
        assert shown[7] == f"{pack.counts['train']['tokens_by_language'].get(row['language'], 0):,}"
    assert sum(int(row[7].replace(",", "")) for row in rows.values()) == pack.counts["train"]["tokens"]
    reasons = {row[0]: int(row[1].replace(",", "")) for row in page.tables["reasons"][1:]}
    assert reasons == curate.counts["dropped"]

    results = {row[0].split()[0]: row for row in page.tables["evaluation"][2:]}
    for name in ("base", "chat", "aligned"):
        measured = evaluate.measures[name]
        low, high = measured["bits_per_byte_interval"]["all"]
        assert results[name][1:3] == [f"{measured['bits_per_byte']['all']:.3f}", f"{low:.3f} to {high:.3f}"]
        assert low <= measured["bits_per_byte"]["all"] <= high
        infilling = measured["infilling"]["all"]
        assert results[name][-2] == f"{infilling['exact']} of {infilling['tasks']}"
    figures = {row[0]: row[1:] for row in page.tables["benchmarks"][1:]}
    assert {
        "functions (in HumanEval's form, 8 problems): pass@1", "requests: harmful refused", "memorisation: verbatim",
        "choices (in MMLU's form, 2 questions): accuracy",
    } <= set(figures)  # fmt: skip
    for row in evaluate.measures["table"]:
        cells = [row["models"][name.split()[0]] for name in page.tables["benchmarks"][0][1:4]]
        assert [cell.split(" ")[0] for cell in figures[row["name"]][:3]] == [f"{100 * c['value']:.1f}" for c in cells]
    feedback = {row[0]: row for row in page.tables["feedback"][1:]}
    for stage in ("rlhf", "dpo"):
        for kind, measured in manifests[stage].measures["measured"].items():
            assert feedback[f"{stage}: {kind}"][2] == f"{measured['before']:.3f} \u2192 {measured['after']:.3f}"
    assert [row[2] for row in page.tables["stages"][1:]] == [
        manifests[row[0]].fingerprint[:12] for row in page.tables["stages"][1:]
    ]
    assert page.texts["tokens"] == f"{manifests['pretrain'].counts['tokens']:,}"
    assert page.texts["documents-after"] == f"{curate.counts['documents_after']:,}"
    assert page.texts["bits-after"] == f"{evaluate.measures['aligned']['bits_per_byte']['all']:.3f}"  # is published
    assert [row[0].split()[0] for row in page.tables["evaluation"][2:]] == ["base", "chat", "aligned"]
    assert {row[0]: row[3] for row in page.tables["stages"][1:]} == {
        stage: manifest.origin["date"][:10] for stage, manifest in manifests.items()
    }
    assert page.texts["sft-after"] == f"{manifests['sft'].measures['held_out_loss_after']:.3f}"


def test_page_shows_what_the_manifests_say_and_links_to_them(chain: Path) -> None:
    html = (chain / "publish" / "index.html").read_text(encoding="utf-8")

    check_page(html, chain)
    for link in re.findall(r'href="(?!https://)([^"#]+)"', html):
        assert (chain / "publish" / link).exists(), link
        assert (chain / "publish" / "model" / link).exists(), link
    for anchor in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{anchor}"' in html
    assert "src=" not in html.replace('src="data:', "")  # one file, nothing fetched
    assert html == (chain / "publish" / "model" / "index.html").read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_reads_well_in_a_browser(chain: Path, tmp_path: Path) -> None:
    """As a browser shows it: scripts run, samples turn, a phone scrolls nothing sideways, dark is dark."""
    html = (chain / "publish" / "index.html").read_text(encoding="utf-8")
    probe = """<style>html { width: 390px; }</style><script>
      const wide = [...document.querySelectorAll("body *")].filter((element) => !element.closest(".scroll, nav, pre")
        && element.getBoundingClientRect().right > 391).map((element) => element.outerHTML.slice(0, 80));
      document.querySelector("[data-turn='1']").click();
      document.body.dataset.wide = JSON.stringify(wide);
      document.body.dataset.shown = document.querySelectorAll("article.shown").length;
      document.body.dataset.ground = getComputedStyle(document.body).backgroundColor;
    </script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", probe), encoding="utf-8")

    def open_page(*options: str) -> str:
        return subprocess.run(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
             *options, "--dump-dom", f"file://{tmp_path}/page.html"],
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip

    light = open_page()
    dark = open_page("--blink-settings=preferredColorScheme=0")

    check_page(light, chain)
    assert 'data-wide="[]"' in light, re.findall(r'data-wide="(.*?)" ', light)
    assert 'data-shown="1"' in light
    assert re.search(r'aria-live="polite">2 of \d+<', light)
    assert 'data-ground="rgb(255, 255, 255)"' in light
    assert 'data-ground="rgb(20, 23, 31)"' in dark


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (make axe)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_finding_of_axe(chain: Path, tmp_path: Path, scheme: str) -> None:
    """The rules of axe-core (WCAG and best practices), in the browser."""
    html = (chain / "publish" / "index.html").read_text(encoding="utf-8")
    program = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    probe = f"""<script>{program}</script><script>
      axe.run().then((found) => {{
        const shown = found.violations.map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 90))]);
        document.body.dataset.axe = JSON.stringify(shown);
        document.body.dataset.passes = found.passes.length;
      }});
    </script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", probe), encoding="utf-8")
    options = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []

    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", *options,
         "--virtual-time-budget=60000", "--dump-dom", f"file://{tmp_path}/page.html"],
        capture_output=True, text=True, check=True, timeout=300,
    ).stdout  # fmt: skip

    assert re.findall(r'data-axe="(.*?)"', done) == ["[]"]
    assert int(re.findall(r'data-passes="(\d+)"', done)[0]) > 25


@pytest.mark.slow
def test_python_of_the_card_runs(chain: Path, tmp_path: Path) -> None:
    """Each block as printed, with the folder in place of the name on the Hub, and without this package."""
    card = (chain / "publish" / "model" / "README.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert ["apply_chat_template" in code for code in codes] == [False, True, False]
    assert "<fim_suffix>" in codes[2]
    name = "codeshell-nano"
    program = "import sys\nsys.modules['codeshell_hf'] = None\n" + "\nprint('-----')\n".join(codes)
    (tmp_path / name).symlink_to(chain / "publish" / "model")
    (tmp_path / "card.py").write_text(program, encoding="utf-8")

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "card.py"], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )

    assert done.returncode == 0, done.stderr[-3000:]
    completed, _, filled = done.stdout.split("-----\n")
    assert completed.startswith("def add(a, b):\n")
    assert filled.startswith("def add(a, b):\n    ")
    assert filled.endswith("\n\n\nprint(add(2, 3))\n\n")


def test_published_weights_are_the_trained_ones(chain: Path) -> None:
    trained = load_file(chain / "rlhf" / "model" / "model.safetensors")
    published = load_file(chain / "publish" / "model" / "model.safetensors")

    assert trained.keys() == published.keys()
    assert all(torch.equal(trained[key], published[key]) for key in trained)


def test_sft_moves_every_weight_and_lowers_the_held_out_loss(chain: Path) -> None:
    before = load_file(chain / "pretrain" / "model" / "model.safetensors")
    after = load_file(chain / "sft" / "model" / "model.safetensors")
    measures = read_finished(chain / "sft").measures

    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert measures["held_out_loss_after"] < measures["held_out_loss_before"]


def losses_of(folder: Path) -> list[float]:
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.slow
def test_publish_pushes_and_a_stranger_loads_it_by_name(chain: Path, tmp_path: Path) -> None:
    """The README's command and the code of docs/publish.md, as printed, against a hub on loopback."""
    assert "push.repository=you/codeshell-nano" in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "publish.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    with serve_hub() as (hub, address):
        environment = visit_hub(address, tmp_path / "home")
        pushes = {"repository": "codeshell-nano", "dataset": "codeshell-nano-data", "tokenizer": "codeshell-tokenizer"}
        pushed_to = [f"push.{key}=you/{name}" for key, name in pushes.items()]
        options = [*arguments("publish", chain), f"output={tmp_path}/out", *pushed_to]
        pushed = subprocess.run(
            [sys.executable, "-m", "recipes.publish", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=environment,
        )
        assert pushed.returncode == 0, pushed.stderr[-2000:]
        assert f"model pushed to {address}/you/codeshell-nano/commit/" in pushed.stdout
        others = (
            "from datasets import load_dataset\n"
            "from transformers import AutoTokenizer\n"
            "data = load_dataset('you/codeshell-nano-data')\n"
            "tokenizer = AutoTokenizer.from_pretrained('you/codeshell-tokenizer', trust_remote_code=True)\n"
            "print('LOADED', {name: split.num_rows for name, split in data.items()}, tokenizer.tokenize('12'))\n"
        )
        loaded = subprocess.run(
            [sys.executable, "-c", code + others],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=environment,
        )

    assert loaded.returncode == 0, loaded.stderr[-2000:]
    counts = read_finished(chain / "pack").counts
    rows = {name: counts[split]["documents"] for name, split in (("train", "train"), ("held_out", "held-out"))}
    assert f"LOADED {rows} ['1', '2']" in loaded.stdout
    assert hub.commits == 3
    assert all(hub.private.values())
    assert "manifests/pretrain.json" in hub.repositories["you/codeshell-nano"]
    assert "you/codeshell-nano" in hub.repositories["you/codeshell-nano"]["README.md"].decode()


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        ("curate", ["sources=[{name: a, path: /no/such/folder}]"], "/no/such/folder does not exist"),
        ("curate", ["sources=[{name: a, path: HOME/hollow}]"], "no file was found in"),
        ("curate", ["rules.max_lin_bytes=3"], "unknown key 'max_lin_bytes'"),
        ("tokenizer", ["vocab_size=100"], "vocab_size is 100, but 256 bytes and 20 special tokens must fit"),
        ("tokenizer", ["documents=HOME/hollow"], "run codeshell curate first"),
        ("pack", ["documents=HOME/nowhere"], "HOME/nowhere does not exist; name a file or folder that does"),
        (
            "pretrain",
            ["model.changes={vocab_size: 300}"],
            "the shards' vocabulary has 400 entries, but the embedding has 300 rows; set model.changes.vocab_size",
        ),
        ("pretrain", ["schedule.phases=[{until_fraction: 1.0, row_tokens: 48}]"], "rows of 48 do not divide"),
        ("pretrain", ["model.changes={n_positions: 128, vocab_size: 400}"], "but the model has 128 positions"),
        ("pretrain", ["model.preset=nona"], "unknown key 'nona' in model.preset; did you mean 'nano'?"),
        ("pretrain", ["model.start_from=HOME/truncated"], "name a complete CodeShell checkpoint"),
        ("pretrain", ["model.start_from=HOME/reshaped"], "name a complete CodeShell checkpoint"),
        ("sft", ["trainer.max_seq_length=5"], "unknown key 'max_seq_length' in the section trainer; did you mean"),
        ("sft", ["model=HOME/truncated"], "name a complete CodeShell checkpoint"),
        ("sft", ["conversations=[HOME/corpus/binary.py]"], "is not JSON"),
        ("evaluate", ["models.base=HOME/truncated"], "name a complete CodeShell checkpoint"),
        (
            "publish",
            ["stages.evaluate=HOME/hollow"],
            "holds no finished output of evaluate; run codeshell evaluate first",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_what_was_there(
    chain: Path, capsys: pytest.CaptureFixture[str], stage: str, more: list[str], message: str
) -> None:
    (chain / "hollow").mkdir(exist_ok=True)
    for name in ("truncated", "reshaped"):
        if not (chain / name).exists():
            shutil.copytree(chain / "sft" / "model", chain / name)
            weights, config = chain / name / "model.safetensors", chain / name / "config.json"
            if name == "truncated":
                weights.write_bytes(weights.read_bytes()[:5000])
            else:
                config.write_text(config.read_text().replace('"n_inner": 64', '"n_inner": 96'))
    before = (chain / stage / "manifest.json").read_bytes()
    capsys.readouterr()

    code = run_stage(stage, chain, *(option.replace("HOME", str(chain)) for option in more))

    complaint = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{stage}: error: ")]
    assert code == 2
    assert len(complaint) == 1
    assert message.replace("HOME", str(chain)) in complaint[0]
    assert (chain / stage / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_a_killed_sft_goes_on_from_its_checkpoint(chain: Path, tmp_path: Path) -> None:
    options = [f"output={tmp_path}/out", "trainer.max_steps=30"]
    command = ["-m", "recipes.sft", *arguments("sft", chain), *options]
    process = start(*command)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.partial").glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        assert process.stdout is not None
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    done = [int(path.name.split("-")[1]) for path in (tmp_path / "out.partial" / "checkpoints").glob("checkpoint-*")]
    again = start(*command, is_warm=True)
    printed = again.communicate(timeout=240)[0]

    assert again.returncode == 0, printed[-3000:]
    assert max(done) < 30
    assert read_finished(tmp_path / "out").counts["steps"] == 30
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 31))


@pytest.mark.parametrize("stage", STAGES)
def test_help_names_every_setting_without_loading_torch(stage: str) -> None:
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['recipes.{stage}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('recipes.{stage}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for name in get_stage(stage).settings.model_fields:
        assert f"  {name}" in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_dry_run_prints_and_writes_nothing(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    assert run_stage(stage, chain, f"output={tmp_path}/out", "--dry-run") == 0

    assert f"{stage} would write {tmp_path}/out" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


COMPUTING = ("curate", "pretrain", "sft", "preferences", "reward", "rlhf", "dpo", "evaluate")
AGAIN = """
import sys
from pathlib import Path
from accelerate.state import AcceleratorState
from tests.test_recipes import COMPUTING, run_stage
for stage in COMPUTING:
    AcceleratorState._reset_state(reset_partial_state=True)
    assert run_stage(stage, Path(sys.argv[1]), "--force") == 0, stage
"""


def check_precision(home: Path) -> dict[str, float]:
    """Every stage that computes wrote what auto took, which is what its probe says; the ratio of each."""
    ratios = {}
    for stage in COMPUTING:
        manifest = read_finished(home / stage)
        found = manifest.precision
        assert found["requested"] == "auto", stage
        assert found["compute_dtype"] == ("bfloat16" if found["speedup"] >= 1.2 else "float32"), stage
        assert found["threads"] >= 1, stage
        ratios[stage] = found["speedup"]
    return ratios


def test_stages_compute_in_what_the_probe_finds_fast(chain: Path) -> None:
    """With this machine as it is; that the probe says what is true of real steps is in test_precision.py."""
    check_precision(chain)

    record = json.loads((chain / "pretrain" / "checkpoints" / "precision.json").read_text())
    record_files = sorted((chain / "pretrain" / "checkpoints").glob("step-*/checkpoint.json"))
    assert {json.loads(record_file.read_text())["run"]["precision"] for record_file in record_files} == {
        record["compute_dtype"]
    }


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the variables are of x86's libraries")
def test_the_chain_computes_in_float32_where_bfloat16_is_a_plain_loop(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain, tmp_path / "home")
    (tmp_path / "home" / "evaluate.kept" / "precision.json").unlink()  # with it, what was taken here is kept

    process = start("-c", AGAIN, str(tmp_path / "home"), ranks=1, is_warm=False, **AVX2)
    printed = process.communicate(timeout=300)[0]

    assert process.returncode == 0, printed[-4000:]
    assert printed.count("arithmetic in float32: products in bfloat16 are ") == len(COMPUTING)
    assert max(check_precision(tmp_path / "home").values()) < 1
    measures = read_finished(tmp_path / "home" / "pretrain").measures
    assert measures["bits_per_byte_after"]["all"] < measures["bits_per_byte_before"]["all"] - 0.3
