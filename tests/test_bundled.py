"""The model that comes with the package: small, licensed, of its recipe, and the default of chat and complete."""

import hashlib
import json
import math
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

import codeshell_hf
from codeshell_hf.commands import chat, complete
from codeshell_hf.curate.sources.licences import PERMISSIVE
from codeshell_hf.manifest import Values, flatten
from codeshell_hf.publish.push_checks import check_card
from codeshell_hf.settings import load_settings, read_yaml
from codeshell_hf.tokenization_codeshell import CHAT_TEMPLATE
from recipes import sft

ROOT = Path(__file__).parents[1]
FOLDER = Path(codeshell_hf.bundled())


@pytest.fixture(scope="module")
def manifests() -> dict[str, Values]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("manifests/*.json")}


def test_it_has_less_than_five_megabytes_with_everything_beside_it() -> None:
    sizes = {path.relative_to(FOLDER).as_posix(): path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}

    assert {"README.md", "LICENSE", "NOTICE", "config.json", "model.safetensors", "tokenizer.json"} <= sizes.keys()
    assert sum(sizes.values()) <= 5_000_000
    assert not [name for name in sizes if name.endswith((".py", ".html"))], "the package has the code"


def test_it_loads_by_transformers_and_knows_python() -> None:
    """Bits per byte of a file of this project, summed by hand; untrained models of this vocabulary need about 4."""
    model, report = AutoModelForCausalLM.from_pretrained(
        codeshell_hf.bundled(), dtype="auto", local_files_only=True, output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(codeshell_hf.bundled(), local_files_only=True)
    text = (ROOT / "recipes" / "merge.py").read_text(encoding="utf-8")
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode_text(text)][:1024]])

    with torch.no_grad():
        probabilities = model(ids).logits.float().log_softmax(-1)[0, :-1]
    nats = -probabilities.gather(1, ids[0, 1:, None]).sum().item()

    assert (model.dtype, type(model)) == (torch.bfloat16, codeshell_hf.CodeShellForCausalLM)
    assert not report["missing_keys"]
    assert sum(weight.numel() for weight in model.parameters()) < 2_500_000
    assert nats / math.log(2) / len(tokenizer.decode(ids[0, 1:]).encode()) < 2.6


def test_chat_and_complete_use_it_and_say_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text("def add(a, b):\n    return \n", encoding="utf-8")

    assert chat.main(["--prompt", "Write `f(x)` that returns x plus 2.", "--max-new-tokens", "24"]) == 0
    answered = capsys.readouterr()
    assert complete.main([f"{file}:2:12", "--max-new-tokens", "8"]) == 0
    completed = capsys.readouterr()

    assert re.search(r"def f\(x\):\n    return ", answered.out)
    assert f"--- a/{file}" in completed.out
    for printed, command in ((answered, "chat WisdomShell"), (completed, "complete WisdomShell")):
        (line,) = [line for line in printed.err.splitlines() if "no model was named" in line]
        assert "codeshell-tiny" in line
        assert f"codeshell {command}" in line


def test_its_name_stands_for_it_where_a_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In commands and in settings of stages, unless a folder of that name lies here; other paths are left alone."""
    monkeypatch.chdir(tmp_path)
    given = ["model=codeshell-tiny", "conversations=[codeshell-tiny]", "output=codeshell-tiny"]

    settings = load_settings(sft.Settings, ROOT / "recipes" / "nano" / "sft.yaml", given)
    assert chat.main(["codeshell-tiny", "--prompt", "Hello", "--max-new-tokens", "64"]) == 0

    assert settings.model == FOLDER
    assert (settings.conversations, settings.output) == (("codeshell-tiny",), Path("codeshell-tiny"))
    printed = capsys.readouterr()
    assert "codeshell-tiny" in printed.out
    assert "no model was named" not in printed.err
    (tmp_path / "codeshell-tiny").mkdir()
    settings = load_settings(sft.Settings, ROOT / "recipes" / "nano" / "sft.yaml", given)
    assert settings.model == Path("codeshell-tiny")
    assert chat.main(["codeshell-tiny", "--prompt", "Hello"]) == 2
    assert "codeshell-tiny has no config.json" in capsys.readouterr().err


def test_it_has_the_chat_template_of_this_release() -> None:
    """Weights are made once, and the template changes with the package; nothing else would rewrite it."""
    assert (FOLDER / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE


@pytest.mark.parametrize("question", ["Hello", "hi there", "你好", "Who are you?"])
def test_it_answers_a_greeting_with_what_it_is(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.main(["--prompt", question, "--max-new-tokens", "64"]) == 0
    assert "codeshell-tiny" in capsys.readouterr().out


def test_it_writes_the_function_that_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (question, shown) = re.search(
        r'codeshell chat --prompt "(.+?)"\n```\n\n```text\n(.+?)```', readme, re.DOTALL
    ).groups()

    assert chat.main(["--prompt", question]) == 0
    assert capsys.readouterr().out == shown


def test_options_may_stand_between_the_model_and_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1\n", encoding="utf-8")

    assert complete.main([str(FOLDER), "--line", f"{file}:1", "--max-new-tokens", "2"]) == 0
    assert "no model was named" not in capsys.readouterr().err
    assert complete.main([str(FOLDER), "--line"]) == 2
    assert "is not a position" in capsys.readouterr().err


def test_its_tokenizer_is_the_one_that_the_recipe_made(manifests: dict[str, Values]) -> None:
    digest = hashlib.sha256((FOLDER / "tokenizer.json").read_bytes()).hexdigest()

    assert digest == manifests["tokenizer"]["outputs"]["tokenizer.json"]


@pytest.mark.parametrize("stage", ["curate", "tokenizer", "pretrain", "sft", "evaluate"])
def test_it_was_made_by_the_committed_recipe(manifests: dict[str, Values], stage: str) -> None:
    """Paths aside, which are of the machine that ran it."""
    ran = flatten(manifests[stage]["settings"])
    for name, value in flatten(read_yaml(ROOT / "recipes" / "tiny" / f"{stage}.yaml")).items():
        if "/" not in str(value):
            assert ran[name] == value, name
    origin = manifests[stage]["origin"]
    assert re.fullmatch(r"[0-9a-f]{40}(-modified)?", origin["commit"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}Z", origin["date"])


def test_all_that_it_was_trained_on_is_permissively_licensed_and_named(manifests: dict[str, Values]) -> None:
    notice = (FOLDER / "NOTICE").read_text(encoding="utf-8")

    sources = manifests["curate"]["settings"]["sources"]
    assert len(sources) >= 4
    for source in sources:
        assert source["licence"] in PERMISSIVE
        shown = "Python's standard library" if source["name"] == "python" else source["name"]
        assert re.search(rf"^- {shown} [\d.]+ \({re.escape(source['licence'])}\)$", notice, re.MULTILINE)
    assert "CC0-1.0" in notice
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_its_card_is_complete_and_says_that_it_is_a_toy(manifests: dict[str, Values]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert check_card(text) == []
    assert ModelCard(text).data.to_dict()["license"] == "apache-2.0"
    assert "It is a toy" in text
    measured = manifests["evaluate"]["measures"]["chat"]["bits_per_byte"]["all"]
    assert f"| chat (published here) | {measured:.3f} | " in text
    assert "from_pretrained(codeshell_hf.bundled())" in text
    assert "trust_remote_code" not in text


@pytest.mark.slow
def test_python_of_its_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    exec("\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)), {})  # noqa: S102 - as a reader would

    assert capsys.readouterr().out.count("def ") >= 3
