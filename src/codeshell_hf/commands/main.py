"""The `codeshell` command.

codeshell init .                                              write the recipes into this folder
codeshell run nano                                            run every stage of a system, in order
codeshell pretrain recipes/nano/pretrain.yaml optimizer.learning_rate=1e-3
codeshell chat runs/nano/publish/model
"""

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..stages import STAGES
from ..version import __version__

# Subcommand -> module with a `main(arguments)`, and what it does.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "init": ("codeshell_hf.commands.init", "write recipes/ and tokenizer/ into a folder, to read, change and run"),
        "run": ("codeshell_hf.commands.run", "run the stages of a system in order; up-to-date ones are skipped"),
        "chat": ("codeshell_hf.commands.chat", "chat with a model, or with a server, in a terminal"),
        "complete": ("codeshell_hf.commands.complete", "fill in code at a position in a file"),
        "serve": ("codeshell_hf.commands.serve", "serve a model: OpenAI's interface, editors', a chat page"),
        "convert": ("codeshell_hf.commands.convert", "convert a released CodeShell folder for current transformers"),
        "gguf": ("codeshell_hf.commands.gguf", "write a model and its tokenizer as one GGUF file"),
        "merge": ("recipes.merge", "merge an adapter into its base model"),
        "plan": ("codeshell_hf.commands.plan", "estimate memory, steps and days of a pretraining run"),
        "compare": ("codeshell_hf.commands.compare", "compare training runs on one page"),
        "verify": ("codeshell_hf.commands.verify", "compare packed shards with their recorded hashes"),
        "programs": ("codeshell_hf.commands.programs", "write generated programs in the layout of another harness"),
        "transformers": (
            "codeshell_hf.commands.transformers_cli",
            "run any command of transformers, with CodeShell registered",
        ),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit status; 2 for an unknown one."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(make_help())
        return 0
    if name in ("-V", "--version"):
        print(f"codeshell-hf {__version__}")
        print("with " + ", ".join(f"{name} {version}" for name, version in list_others().items()))
        return 0
    if name not in (*COMMANDS, *STAGES):
        near = difflib.get_close_matches(name, [*COMMANDS, *STAGES], 1)
        advice = f"did you mean '{near[0]}'?" if near else "codeshell --help lists them"
        print(f"codeshell: error: unknown command '{name}'; {advice}", file=sys.stderr)
        return 2
    try:
        return start(name, rest)
    except (AttributeError, ImportError, TypeError) as error:
        from .workspace import explain_misfit

        if (line := explain_misfit(error)) is None:
            raise
        print(f"{name}: error: {line}", file=sys.stderr)
        return 2


def start(name: str, rest: list[str]) -> int:
    """Runs a stage or a command with its arguments, and returns its exit status."""
    if name in STAGES:
        from .launch import main as run_stage

        return run_stage(name, rest)
    module = COMMANDS[name][0]
    asks_help = bool({"-h", "--help"} & set(rest))
    # `codeshell transformers serve --help` is passed on.
    if name == "transformers" and rest[:1] in (["-h"], ["--help"]):
        from .transformers_cli import print_help

        print_help()
        return 0
    # Chats with servers use transformers' own client.
    asks_server = name == "chat" and any(word.startswith(("http://", "https://")) for word in rest)
    if asks_server and not asks_help:
        module, rest = "codeshell_hf.commands.transformers_cli", [name, *rest]
    if module.startswith("recipes."):
        from .workspace import use_workspace

        use_workspace(is_silent=asks_help)
    status: int = importlib.import_module(module).main(rest)
    return status


def list_others() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, where installed."""
    from ..manifest import list_versions

    return {name: version for name, version in list_versions().items() if name != "codeshell-hf"}


def make_help() -> str:
    """The help text: every command and stage, with examples."""
    commands = "\n".join(f"  {name:<13} {text}" for name, (_, text) in COMMANDS.items())
    examples = "\n".join(f"  {line}" for line in str(__doc__).splitlines()[2:])
    return (
        "usage: codeshell COMMAND ...\n\n"
        f"commands:\n{commands}\n\n"
        f"stages (codeshell STAGE CONFIG.yaml [section.key=value ...]), in order:\n  {' '.join(STAGES)}\n\n"
        f"examples:\n{examples}\n\n"
        "codeshell COMMAND --help explains each. Stages use recipes/ of the current folder, or else those of the "
        "installed package."
    )
