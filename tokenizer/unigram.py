"""SentencePiece's unigram model, made lossless: no normalisation, spaces kept, byte fallback."""

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
MAX_LINE_BYTES = 16_384
COVERAGE = 0.9995  # of the characters in each script
THREADS = 2  # fixed, since the order of sums in training changes the result


def train_unigram(
    read: Callable[[], Iterable[str]],
    *,
    vocab_size: int,
    max_positions: int | None = None,
    sample_lines: int = 2_000_000,
) -> CodeShellTokenizer:
    """Trains a unigram vocabulary; CodeShell's 20 special tokens come last.

    It is trained on single lines with their indentation; a line end is encoded as a byte. Spaces are not replaced by
    "▁", so a literal "▁" in a text is kept.

    Args:
        read: Returns the texts; called twice, to count characters and to train.
        vocab_size: All entries: the pieces, 256 bytes, the unknown piece, which is never used, and special tokens.
        max_positions: The longest input in tokens, for the tokenizer's configuration.
        sample_lines: Maximum of lines that SentencePiece keeps in memory.

    Raises:
        SettingsError: If the bytes do not fit.
        DataError: If the texts are too small for this many pieces.
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
            max_sentence_length=MAX_LINE_BYTES,
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
            f"SentencePiece could not train {pieces} pieces ({reason}); give more texts or lower vocab_size"
        ) from error
    return wrap_backend(_convert(model.getvalue()), max_positions=max_positions)


def choose_characters(texts: Iterable[str], *, most: int) -> list[str]:
    """Chooses the characters that must be pieces: the most frequent of each script, up to `COVERAGE` of it.

    With coverage over all characters, Chinese in texts that are mostly code would be encoded as bytes. If texts contain
    Chinese, its punctuation and level 1 of GB/T 2312 are added.

    Args:
        most: Maximum number of characters; the rarest are left out.

    Returns:
        Characters, the most frequent first.
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
    # A letter's Unicode name begins with its script: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E00.
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else "other"


def _split_lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.replace("\0", "").splitlines():
            if line.strip():
                yield line[: MAX_LINE_BYTES // 4]


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
            # Splits numbers, and keeps a literal "<0x0A>" in a text from being encoded as the byte.
            pre_tokenizers.Digits(individual_digits=True),
            # The model fuses consecutive unknown characters, and then aligns each of their bytes with all of them.
            pre_tokenizers.Split(Regex(f"[^{known}]"), "isolated"),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return backend
