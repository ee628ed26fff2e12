"""Chats with a model in a terminal.

codeshell chat                                           with the tiny model that comes with the package
codeshell chat runs/nano/publish/model
codeshell chat runs/nano/publish/model --prompt "Write f(x) that returns x plus 2."
echo "写一个函数" | codeshell chat runs/nano/publish/model
codeshell chat runs/nano/publish/model http://localhost:8000     with a server, by transformers' own client
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..stages.process import make_parser, run
from .terminal import add_options, load, make_sampling, print_speed, use_bundled

if TYPE_CHECKING:
    from ..modeling_codeshell import CodeShellForCausalLM
    from ..text.sampling import Sampling
    from ..tokenization_codeshell import CodeShellTokenizer

HELP = """/new starts a new conversation, /undo removes the last turn, /quit exits; Ctrl-C stops an answer;
three double quotes start and end a message of several lines"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Chats until the input ends; returns 0, or 2 if called wrongly."""
    parser = make_parser("chat", __doc__)
    parser.add_argument(
        "folder", nargs="?",
        help="a model that was fine-tuned on conversations, or its name on the Hub; by default a tiny one",
    )  # fmt: skip
    parser.add_argument("--prompt", help="answer this prompt and exit")
    parser.add_argument("--system", help="a system message, prepended to the first turn")
    add_options(parser, max_new_tokens=512)
    options = parser.parse_args(arguments)

    def work() -> None:
        model, tokenizer = load(use_bundled(options.folder, "codeshell chat WisdomShell/CodeShell-7B-Chat"), options)
        chat = Chat(model, tokenizer, make_sampling(options), system=options.system)
        if options.prompt is not None:
            chat.answer(options.prompt)
        elif not sys.stdin.isatty():
            chat.answer(sys.stdin.read().strip())
        else:
            talk(chat)

    return run("chat", work)


class Chat:
    """A conversation; `system` is prepended to the first turn."""

    def __init__(
        self,
        model: "CodeShellForCausalLM",
        tokenizer: "CodeShellTokenizer",
        sampling: "Sampling",
        *,
        system: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = replace(sampling, stops=tuple(tokenizer.stop_strings))
        self.system = system
        self.turns: list[dict[str, str]] = []

    def answer(self, text: str) -> str:
        """Answers a user's turn, and prints the answer as it is generated.

        Raises:
            DataError: If the turn is empty, or too long for the model by itself.
        """
        from ..errors import DataError
        from ..text.stream import stream

        if not text.strip():
            raise DataError("the prompt is empty; write something")
        self.turns.append({"role": "user", "content": text})
        try:
            prompt = self.fit()
        except DataError:
            self.turns.pop()
            raise
        is_first = True

        def show(piece: str) -> None:
            nonlocal is_first
            piece = piece.lstrip() if is_first else piece
            is_first = is_first and not piece
            print(piece, end="", flush=True)

        written = stream(self.model, self.tokenizer, prompt, self.sampling, on_text=show)
        print()
        print_speed(written)
        self.turns.append({"role": "assistant", "content": written.text.strip()})
        return written.text.strip()

    def fit(self) -> list[int]:
        """Encodes the conversation, without the oldest turns if it is too long, with room for an answer.

        Raises:
            DataError: If the last turn is too long by itself.
        """
        from ..errors import DataError
        from ..text.chat import encode_prompt

        room = self.model.config.n_positions - self.sampling.max_new_tokens
        if room < 1:
            positions, answer = self.model.config.n_positions, self.sampling.max_new_tokens
            raise DataError(f"--max-new-tokens is {answer}, and the model has {positions} positions; lower it")
        for first in range(0, len(self.turns), 2):
            turns = [dict(turn) for turn in self.turns[first:]]
            if self.system:
                turns[0]["content"] = f"{self.system}\n\n{turns[0]['content']}"
            ids = encode_prompt(self.tokenizer, turns)
            if len(ids) <= room:
                if first:
                    print(f"[the first {first} turns no longer fit, and are left out]", file=sys.stderr)
                    self.turns = self.turns[first:]
                return ids
        positions, answer = self.model.config.n_positions, self.sampling.max_new_tokens
        raise DataError(
            f"the prompt has {len(ids)} tokens, but {room} of {positions} positions are left beside {answer} for "
            "the answer; shorten it, or lower --max-new-tokens"
        )


def talk(chat: Chat) -> None:
    """Reads turns from a terminal and answers them."""
    from ..errors import DataError

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history)
    print(HELP)
    while True:
        try:
            text = input(">>> ")
            if text.startswith('"""'):
                lines = [text.removeprefix('"""')]
                while not lines[-1].endswith('"""') or lines == [""]:
                    lines.append(input("... "))
                text = "\n".join(lines).removesuffix('"""').strip()
        except EOFError:
            print()
            return
        if text in ("/quit", "/exit"):
            return
        if text == "/new":
            chat.turns.clear()
        elif text == "/undo":
            del chat.turns[-2:]
        elif text.startswith("/"):
            print(HELP)
        elif text.strip():
            try:
                chat.answer(text)
            except DataError as error:
                print(error, file=sys.stderr)
