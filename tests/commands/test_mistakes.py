"""Mistakes of people who use this for the first time: each ends with 2 and one line that says what to do."""

import contextlib
import json
import logging
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.commands.main import COMMANDS, main
from codeshell_hf.stages import STAGES
from codeshell_hf.stages.process import explain_missing_package, prepare_process
from codeshell_hf.stages.process import run as run_work

MODEL = "MODEL"  # a tiny checkpoint
GOOD = {"messages": [{"role": "user", "content": "add"}, {"role": "assistant", "content": "a + b"}]}
SFT = ["sft", "recipes/nano/sft.yaml", "model=MODEL"]
MISTAKES = {
    # settings
    "a key of a section": (
        ["pretrain", "recipes/nano/pretrain.yaml", "learning_rate=1e-3"],
        "unknown key 'learning_rate' on the command line; did you mean 'optimizer.learning_rate'?",
    ),
    "a key of TRL's": (
        [*SFT, "learning_rate=1e-3"],
        "unknown key 'learning_rate' on the command line; did you mean 'trainer.learning_rate'?",
    ),
    "a key that nothing has": (
        [*SFT, "epochs=3"],
        "unknown key 'epochs' on the command line; what trainer takes is written trainer.epochs",
    ),
    "a key of TRL's, misspelt": ([*SFT, "trainer.learning_rat=1"], "did you mean 'learning_rate'?"),
    "a word for a number": (
        ["pretrain", "recipes/nano/pretrain.yaml", "optimizer.learning_rate=fast"],
        "optimizer.learning_rate is 'fast' on the command line: input should be a valid number",
    ),
    "one for a list": (
        [*SFT, "conversations=mine.jsonl"],
        "conversations is 'mine.jsonl' on the command line: input should be a list; write [mine.jsonl]",
    ),
    "no space after a colon": (
        ["evaluate", "recipes/nano/evaluate.yaml", "models={mine:here}"],
        "models.mine:here is None on the command line: it has no value; write a space after the colon",
    ),
    "a wrong value of the file": (["sft", "wrong.yaml"], "held_out_fraction is 'much' in wrong.yaml"),
    "no equals sign": ([*SFT, "trainer.max_steps"], "override 'trainer.max_steps' has no '='"),
    "a file that is not there": (["sft", "recipes/nano/sftt.yaml"], "sftt.yaml cannot be read (No such file"),
    "tabs in YAML": (["sft", "tab.yaml"], "tab.yaml is not YAML"),
    # order of stages
    "no pretrained model": (
        ["sft", "recipes/nano/sft.yaml"],
        "`codeshell run nano` runs all stages, and model=codeshell-tiny takes the package's model",
    ),
    "nothing packed": (
        ["pretrain", "recipes/nano/pretrain.yaml"],
        "runs/nano/pack does not exist; run `codeshell pack recipes/nano/pack.yaml` first",
    ),
    "nothing to publish": (
        ["publish", "recipes/nano/publish.yaml"],
        "runs/nano/rlhf/model does not exist; run `codeshell rlhf recipes/nano/rlhf.yaml` first",
    ),
    "another system's tokenizer": (
        ["pack", "recipes/codeshell-small/pack.yaml", "documents=recipes"],
        "runs/codeshell-7b/tokenizer does not exist; run `codeshell tokenizer recipes/codeshell-7b/tokenizer.yaml`",
    ),
    "a system that is none": (["run", "nanoo"], "did you mean 'nano'?"),
    # models
    "a model that was not made": (
        ["chat", "runs/nano/publish/model"],
        "runs/nano/publish/model does not exist; run `codeshell run nano`",
    ),
    "an empty folder": (["chat", "empty"], "empty has no config.json, so it is no model"),
    "the folder above": (["chat", "outer"], "outer/model has one"),
    "a file": (["chat", "odd.jsonl"], "odd.jsonl is a file and no folder with a model"),
    "a GGUF file": (["chat", "model.gguf"], "codeshell serve passes it to llama.cpp"),
    "no network": (["chat", "owner/name"], "was not downloaded, and http://127.0.0.1:9 cannot be reached"),
    "no server": (["chat", "model", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9"),
    "no model beside the server": (["chat", "http://127.0.0.1:9"], "write codeshell chat MODEL http://127.0.0.1:9"),
    "a GPU that is not there": (
        ["chat", MODEL, "--device", "cuda:99", "--prompt", "a"],
        "pass --device cpu, or leave it out",
    ),
    "no prompt": (["chat", MODEL, "--prompt", " "], "the prompt is empty"),
    "too long an answer": (
        ["chat", MODEL, "--prompt", "a", "--max-new-tokens", "99999"],
        "--max-new-tokens is 99999, and the model has",
    ),
    "an export of nothing": (["gguf", "empty", "out.gguf"], "empty has no config.json"),
    "a conversion of nothing": (["convert", "nothing", "out"], "nothing does not exist"),
    "a conversion onto something": (["convert", MODEL, "empty"], "empty exists already; name another folder"),
    "no adapter": (["merge", "nothing", "out"], "nothing has no readable adapter_config.json"),
    # files
    "no position": (["complete", MODEL, "code.py"], "code.py is not a position; write FILE:LINE"),
    "no such code": (["complete", MODEL, "none.py:1"], "none.py does not exist; name a text file"),
    "a line too far": (["complete", MODEL, "code.py:99"], "code.py has 2 lines, not a line 99"),
    "no conversations": ([*SFT, "conversations=[none.jsonl]"], "none.jsonl does not exist"),
    "an empty file": ([*SFT, "conversations=[empty.jsonl]"], "empty.jsonl holds no conversation (it has no rows)"),
    "other columns": ([*SFT, "conversations=[odd.jsonl]"], "line 1 of odd.jsonl has no messages"),
    "no JSON": ([*SFT, "conversations=[bad.jsonl]"], "line 1 of bad.jsonl is not JSON"),
    "a folder without data": ([*SFT, "conversations=[empty]"], "empty has no data file"),
    "no code to curate": (
        ["curate", "recipes/nano/curate.yaml", "sources=[{name: a, path: none}]"],
        "none does not exist; name a file or folder that does",
    ),
    "no shards": (["verify", "nothing"], "nothing has no token shards"),
    "recipes into a file": (["init", "code.py"], "cannot be written"),
    # servers and plans
    "a port in use": (["serve", MODEL, "--port", "PORT"], "(Address already in use); choose another --port"),
    "a port that is none": (["serve", MODEL, "--port", "99999"], "choose another --port"),
    "no outputs at a time": (["serve", MODEL, "--max-rows", "0"], "--max-rows is 0"),
    "a GGUF that is not there": (["serve", "none.gguf"], "none.gguf does not exist; codeshell gguf FOLDER none.gguf"),
    "an unknown GPU": (["plan", "recipes/nano/pretrain.yaml", "gpu=rtx"], "known are a100-40g"),
    "a misspelt command": (["complet", MODEL], "did you mean 'complete'?"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of a person without a network, and some files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "model").mkdir(parents=True)
    (tmp_path / "outer" / "model" / "config.json").write_text("{}")
    (tmp_path / "wrong.yaml").write_text("output: a\nmodel: b\nconversations: [c]\nheld_out_fraction: much\n")
    (tmp_path / "tab.yaml").write_text("a:\n\t- b\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "odd.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "bad.jsonl").write_text("no json\n")
    (tmp_path / "good.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "code.py").write_text("def area(r):\n")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    handlers = list(logging.getLogger().handlers)
    yield tmp_path
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(
    place: Path, learnt_by_heart: Path, capfd: pytest.CaptureFixture[str], mistake: str
) -> None:
    arguments, message = MISTAKES[mistake]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = {"PORT": str(taken.getsockname()[1])}
        given = [words.get(word, word.replace(MODEL, str(learnt_by_heart))) for word in arguments]
        code = main(given)

    shown = [line for line in capfd.readouterr().err.splitlines() if line and not line.startswith("codeshell: using")]
    assert code == 2, shown
    lines = [line for line in shown if not re.search(r"\d+%\||\dpart|\dtensor \[.*\]\s*$", line)]  # of a progress bar
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert ": error: " in lines[0]


def test_a_package_that_is_missing_is_named_with_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ModuleNotFoundError("No module named 'tree_sitter_python'", name="tree_sitter_python.binding")

    assert run_work("curate", work) == 2
    shown = capsys.readouterr().err
    assert "error: tree_sitter_python.binding is not installed; pip install 'codeshell-hf[curate]'" in shown
    assert explain_missing_package(ModuleNotFoundError("no", name="trl")) == (
        "trl is not installed; pip install 'codeshell-hf[align]', or [all] for every stage"
    )
    assert explain_missing_package(ModuleNotFoundError("no", name="no_such_package")) is None
    assert explain_missing_package(ModuleNotFoundError("no")) is None


def test_deepspeed_is_silent_about_a_machine_without_a_gpu() -> None:
    logger = logging.getLogger("DeepSpeed")
    prepare_process()

    def passes(text: str) -> bool:
        return bool(logger.filter(logging.LogRecord("DeepSpeed", logging.WARNING, "", 0, text, None, None)))

    assert not passes("Setting accelerator to CPU. If you have GPU or other accelerator, ...")
    assert passes("overflow")


def test_a_warning_to_developers_of_trl_is_not_shown_to_whoever_trains(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    model = tiny_model()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert not model.is_gradient_checkpointing
        assert [one.category for one in shown] == [FutureWarning], "as transformers has it"
        prepare_process()
        assert not model.is_gradient_checkpointing
        warnings.warn("another", FutureWarning, stacklevel=1)
    assert [str(one.message) for one in shown][1:] == ["another"]


@pytest.mark.parametrize("name", ["", *COMMANDS, *STAGES])
def test_help_names_modules_that_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([*name.split(), "--help"])
    root = Path(__file__).parents[2]
    for module in re.findall(r"-m ([\w.]+)", capsys.readouterr().out):
        path = module.replace(".", "/")
        assert (root / f"{path}.py").is_file() or (root / "src" / path / "__main__.py").is_file(), module
