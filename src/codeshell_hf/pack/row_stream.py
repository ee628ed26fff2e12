"""The stream of rows of a training run, and its steps, split over ranks and micro-batches."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError, SettingsError
from ..text.shards import HEADER, TokenShards
from ..text.token_files import SUFFIX
from ..tokenization_codeshell import CodeShellTokenizer
from .datatrove import DatatroveShards
from .encoder import COMPARED_DOCUMENTS, make_codec
from .infilling import Infilling
from .layout import Phase
from .marks import find_marks
from .mixture import Mixture
from .rows import Batch, Documents, Rows
from .settings import DataSettings
from .shard_writer import make_header

Stream = Rows | Mixture


def open_rows(data: DataSettings, phases: Sequence[tuple[int, int]], *, seed: int) -> Stream:
    """Opens shards as a stream of packed rows.

    Args:
        data: Its tokenizer must be the one with which the shards were packed.
        phases: First token and row length of each phase.

    Raises:
        DataError: If shards are missing, broken, or of another tokenizer, or tree-sitter is not installed for cuts by
            syntax.
        SettingsError: If shares do not fit together, or are never used.
    """
    mixture, infilling = data.mixture, data.infilling
    loaded = CodeShellTokenizer.from_pretrained(data.tokenizer)
    placed = [Phase(*phase) for phase in phases]
    folders = (data.shards, *(one.shards for one in mixture))
    opened = [open_shards(folder, data.tokenizer, loaded) for folder in folders]
    rearranging = None
    if infilling is not None:
        if infilling.cuts.get("syntax") and find_spec("tree_sitter") is None:
            raise DataError('infilling.cuts by syntax read programs by tree-sitter; pip install "codeshell-hf[curate]"')
        codec = None
        if infilling.cuts.keys() - {"token"}:
            first = opened[0]
            sample = range(0, len(first), max(1, len(first) // COMPARED_DOCUMENTS))
            codec = make_codec(loaded, (loaded.decode(first[index]) for index in sample))
        rearranging = Infilling(infilling, codec, find_marks(loaded))
    if not mixture:
        return Rows(opened[0], seed=seed, phases=placed, infilling=rearranging, settings=data.rows)
    further = [
        [one.share * (number >= one.from_phase and phase.row_tokens >= one.min_row_tokens) for one in mixture]
        for number, phase in enumerate(placed, 1)
    ]
    for one, *used in zip(mixture, *further, strict=True):
        if not any(used):
            raise SettingsError(
                f"the mixture's {one.shards} is used in none of the {len(placed)} phases; lower from_phase "
                f"({one.from_phase}) or min_row_tokens ({one.min_row_tokens})"
            )
    shares = [[1 - sum(some), *some] for some in further]
    return Mixture(opened, shares, seed=seed, phases=placed, infilling=rearranging, settings=data.rows)


def open_shards(folder: Path, tokenizer: Path, loaded: CodeShellTokenizer) -> Documents:
    """Opens one folder of training documents.

    Args:
        folder: Output of pack, whose training split is opened; a split of it; or datatrove's `.ds` files.
        tokenizer: Folder of `loaded`, the tokenizer with which they must have been packed.

    Raises:
        DataError: If they are missing, broken, or of another tokenizer.
    """
    header = make_header(loaded, tokenizer)
    # A split written by pack also has .ds files.
    is_split = (folder / HEADER).exists()
    if not is_split and any(folder.glob(f"*{SUFFIX}")):
        return DatatroveShards(folder, header)
    shards = TokenShards(folder if is_split else folder / "train")
    if shards.header.tokenizer != header.tokenizer:
        raise DataError(f"{folder} was packed with another tokenizer than {tokenizer}; name that one, or pack again")
    return shards


def read_step(
    rows: Stream, consumed: int, step_tokens: int, micro_tokens: int, rank: int = 0, ranks: int = 1
) -> list[Batch]:
    """Reads a rank's micro-batches of a step, each of shape (micro_tokens / row_tokens, row_tokens).

    Args:
        consumed: Tokens before the step.
        step_tokens: Tokens of the step, over all ranks.
    """
    starts = range(consumed + rank * micro_tokens, consumed + step_tokens, ranks * micro_tokens)
    return [rows.read(start, micro_tokens // rows.find_row_tokens(start)) for start in starts]
