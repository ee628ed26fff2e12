"""Puts the published model of this system into the package.

codeshell run tiny
python -m recipes.tiny.bundle runs/tiny src/codeshell_hf/codeshell-tiny
"""

import argparse
import importlib.metadata
import json
import shutil
from pathlib import Path

from codeshell_hf.manifest import Values, hash_file, require_manifest

ROOT = Path(__file__).parents[2]
FILES = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja",
)  # fmt: skip
STAGES = ("curate", "tokenizer", "pretrain", "sft", "evaluate")
# The other data that settings name: what it is, by its licence.
DATA = {
    "tokenizer/data/chinese-python-docs.jsonl": "the Chinese translation of Python's documentation (CC0-1.0)",
    "recipes/nano/data, recipes/tiny/data": "this project's own conversations and tasks (Apache-2.0)",
}


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output of codeshell run tiny")
    parser.add_argument("folder", type=Path, help="folder to write")
    options = parser.parse_args()
    bundle(options.run, options.folder)


def bundle(run: Path, folder: Path) -> None:
    """Writes a folder that loads with this package: weights, tokenizer, card, licence, notice and manifests.

    The model's code stays out, since the package has it.
    """
    published = run / "publish" / "model"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "manifests").mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(published / name, folder / name)
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        values.pop("auto_map", None)
        (folder / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for stage in STAGES:
        shutil.copyfile(published / "manifests" / f"{stage}.json", folder / "manifests" / f"{stage}.json")
    card = (published / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(localize(card), encoding="utf-8")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    sources = require_manifest(run / "curate", "curate").settings["sources"]
    (folder / "NOTICE").write_text(write_notice(sources), encoding="utf-8")
    print(f"{folder}: {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()):,} bytes")
    print(f"tokenizer.json: {hash_file(folder / 'tokenizer.json')}")


def localize(card: str) -> str:
    """The card with snippets that load the model from the package, instead of from the Hub."""
    card = card.replace('"codeshell-tiny", trust_remote_code=True', "codeshell_hf.bundled()")
    return card.replace("```python\nfrom transformers", "```python\nimport codeshell_hf\nfrom transformers", 1)


def write_notice(sources: list[Values]) -> str:
    """What the model was trained on, with versions and licences."""
    lines = ["codeshell-tiny", "Copyright the codeshell-hf contributors", "", "It was trained on code of:"]
    lines += [f"- {describe_source(source['name'])} ({source['licence']})" for source in sources]
    lines += [f"- {text}" for text in DATA.values()]
    return "\n".join([*lines, "", "Their texts keep their licences. They are not in the model's files."]) + "\n"


def describe_source(name: str) -> str:
    """A source with the version that is installed."""
    if name == "python":
        import platform

        return f"Python's standard library {platform.python_version()}"
    return f"{name} {importlib.metadata.version(name)}"


if __name__ == "__main__":
    main()
