"""A byte-level BPE vocabulary: 256 bytes and an ordered list of merges."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.text.tiktoken_encoder import list_bytes
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS

Merge = tuple[str, str]
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


BYTES = list_bytes()


def to_bytes(token: str) -> bytes:
    """The bytes of a token in byte-level characters; they may be incomplete UTF-8."""
    return bytes(BYTES[letter] for letter in token)


@dataclass(frozen=True)
class Vocabulary:
    """Ordered merges over the 256 bytes; the operands of each are bytes or products of earlier merges.

    Ids are first the bytes, then the products in the order of their first merge.
    """

    merges: tuple[Merge, ...]

    @cached_property
    def tokens(self) -> list[str]:
        """All entries in the order of ids, without special tokens."""
        return list(dict.fromkeys([*BYTES, *(left + right for left, right in self.merges)]))

    def __len__(self) -> int:
        return len(self.tokens)

    def make_backend(self, special_tokens: Sequence[str] = ()) -> Tokenizer:
        """Makes a tokenizer with StarCoder's pre-tokenizer; special tokens get the last ids."""
        ids = {token: index for index, token in enumerate(self.tokens)}
        backend = Tokenizer(models.BPE(vocab=ids, merges=list(self.merges)))
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(list(special_tokens))
        return backend


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads the merges of a `tokenizer.json`, ignoring its special tokens and ids.

    Args:
        path: The file, or its folder.

    Raises:
        DataError: If it is not a byte-level BPE, or an operand of a merge is missing.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a tokenizer.json") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON; name a tokenizer.json") from error
    return parse_vocabulary(values, str(path))


def find_base(name: str) -> Path:
    """Finds a `tokenizer.json` by file, folder, or `owner/name` on the Hub, from which it is downloaded.

    Raises:
        DataError: If there is none.
    """
    path = Path(name)
    if path.exists() or not HUB_NAME.fullmatch(name):
        return path / "tokenizer.json" if path.is_dir() else path
    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"base {name} is neither a file nor a repository of the Hub that can be read ({reason})"
        ) from error


def parse_vocabulary(values: object, source: str) -> Vocabulary:
    """Reads the merges of a tokenizer's JSON.

    Args:
        source: Its file, for messages.

    Raises:
        DataError: If it is not a byte-level BPE, or an operand of a merge is missing.
    """
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or "merges" not in model or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else type(values).__name__
        raise DataError(f"{source} is {kind!r}, not a BPE with merges; name a byte-level BPE's tokenizer.json")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    made = set(BYTES)
    for number, merge in enumerate(merges):
        if len(merge) != 2:
            raise DataError(f"merge {number} of {source} is {merge!r}; it must have two operands")
        for operand in merge:
            if operand not in made:
                raise DataError(
                    f"merge {number} of {source} needs {operand!r}, which is neither a byte nor an earlier product; "
                    "repair the file or name another base"
                )
        made.add(merge[0] + merge[1])
    return Vocabulary(tuple((left, right) for left, right in merges))


def find_dead_tokens(backend: Tokenizer, tokens: Iterable[str]) -> list[str]:
    """Finds tokens that a BPE never produces, even from their own text.

    Args:
        tokens: In byte-level characters.
    """
    dead = []
    for token in tokens:
        pieces = backend.model.tokenize(token)
        if len(pieces) != 1 or pieces[0].value != token:
            dead.append(token)
    return dead


def find_lossy_characters(backend: Tokenizer, characters: Iterable[str]) -> list[str]:
    """Finds the characters, each encoded alone, that a round trip changes."""
    tried = list(characters)
    encoded = backend.encode_batch(tried, add_special_tokens=False)
    decoded = backend.decode_batch([list(encoding.ids) for encoding in encoded], skip_special_tokens=False)
    return [character for character, back in zip(tried, decoded, strict=True) if character != back]


def check_size(vocab_size: int) -> None:
    """Checks that the bytes and the special tokens fit.

    Raises:
        SettingsError: If they do not; the message has the smallest size.
    """
    smallest = len(BYTES) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise SettingsError(
            f"vocab_size is {vocab_size}, but {len(BYTES)} bytes and {len(SPECIAL_TOKENS)} special tokens must fit; "
            f"set it to {smallest} or more"
        )
