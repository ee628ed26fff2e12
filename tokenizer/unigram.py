"""SentencePiece's unigram model, made lossless: no normalisation, no folding of spaces, bytes for what is unknown."""

import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS

from .bpe import wrap_backend
from .characters import CHINESE_PUNCTUATION, is_chinese, list_level_one

SPACE = "\u2581"  # how SentencePiece writes a space
LONGEST_LINE = 16_384
COVERAGE = 0.9995  # of the characters of each script
THREADS = 2  # part of the result: the sums of the training depend on their order


def train_unigram(
    read: Callable[[], Iterable[str]],
    *,
    vocab_size: int,
    max_positions: int | None = None,
    sample_lines: int = 2_000_000,
) -> CodeShellTokenizer:
    """Trains a unigram vocabulary with CodeShell's 20 special tokens last.

    Lines are trained on one by one, with their indentation; a line end is a byte. Spaces are written as themselves, so
    that a literal "▁" in a text stays what it is.

    Args:
        read: Gives the texts; called twice, to count characters and to train.
        vocab_size: All entries: the pieces, 256 bytes, the unknown piece, which is never used, and special tokens.
        max_positions: The longest input that the tokenizer's configuration states, in tokens.
        sample_lines: How many lines SentencePiece holds in memory at most.

    Raises:
        SettingsError: If the bytes do not fit.
        DataError: If the texts are too few for so many pieces.
    """
    pieces = vocab_size - len(SPECIAL_TOKENS)
    if pieces < 512:
        raise SettingsError(
            f"vocab_size is {vocab_size}, but 256 bytes, pieces and special tokens must fit; set it to 532 or more"
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_split_lines(read()),
            model_writer=model,
            model_type="unigram",
            vocab_size=pieces,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            character_coverage=COVERAGE,
            required_chars="".join(choose_characters(read(), most=pieces // 2)),
            max_sentence_length=LONGEST_LINE,
            input_sentence_size=sample_lines,
            shuffle_input_sentence=False,
            num_threads=THREADS,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(
            f"SentencePiece made no {pieces} pieces ({reason}); give more texts or lower vocab_size"
        ) from error
    return wrap_backend(_convert(model.getvalue()), max_positions=max_positions)


def choose_characters(texts: Iterable[str], *, most: int) -> list[str]:
    """Chooses the characters that must be pieces: of each script those that cover its share, whatever that script's.

    Coverage over all characters alone leaves the Chinese of texts that are mostly code to bytes. Where texts hold
    Chinese, its punctuation and level 1 of GB/T 2312 are chosen too.

    Args:
        most: As many are chosen at most, those that stand most often first.

    Returns:
        In the order of their counts.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    scripts: defaultdict[str, list[str]] = defaultdict(list)
    for character, _ in counts.most_common():
        if unicodedata.category(character)[0] not in "CZ" and character != SPACE:
            scripts[_name_script(character)].append(character)
    chosen = []
    for characters in scripts.values():
        wanted = COVERAGE * sum(counts[character] for character in characters)
        for character in characters:
            if wanted <= 0:
                break
            chosen.append(character)
            wanted -= counts[character]
    if any(map(is_chinese, counts)):
        chosen += [*CHINESE_PUNCTUATION, *list_level_one()]
    return sorted(dict.fromkeys(chosen), key=lambda character: (-counts[character], character))[:most]


def _name_script(character: str) -> str:
    # A letter's Unicode name begins with its script's: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E00.
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else "other"


def _split_lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.replace("\0", "").splitlines():
            if line.strip():
                yield line[: LONGEST_LINE // 4]


def _convert(model: bytes) -> Tokenizer:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = [
        (processor.id_to_piece(index).replace(SPACE, " "), processor.get_score(index))
        for index in range(processor.get_piece_size())
    ]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    known = "".join(f"\\x{{{ord(piece):x}}}" for piece, _ in vocabulary if len(piece) == 1)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Besides splitting numbers, this keeps a literal "<0x0A>" in a text from becoming the byte.
            pre_tokenizers.Digits(individual_digits=True),
            # The model takes unknown characters in a row for one, and each of their bytes for all of it.
            pre_tokenizers.Split(Regex(f"[^{known}]"), "isolated"),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return backend
