"""Decodes text that is not UTF-8: UTF-16, GB18030, Big5, Shift-JIS, EUC-JP, EUC-KR, Windows-1251, Latin-1."""

import codecs
import re

UTF_8 = "utf-8"
# Decoded is what the first bytes decide; the rest only has to be valid.
_SAMPLE_BYTES = 50_000
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f�]")
_UTF_8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_MIN_UTF_8 = 0.8
_RUN = re.compile(rb"[\x80-\xff]+")
_KANA = re.compile("[぀-ヿ]")
_HANGUL = re.compile("[가-힣]")
_HALF_KANA = re.compile("[｡-ﾟ]")
_COMMON_PAIRS = {
    # The first level of GB2312 with its punctuation and full-width forms; Big5's frequent characters with punctuation.
    "gb18030": re.compile(rb"[\xb0-\xd7][\xa1-\xfe]|[\xa1\xa3][\xa1-\xfe]"),
    "big5": re.compile(rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]|\xa1[\x40-\x7e\xa1-\xfe]"),
}
_PAIRS = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")
_CYRILLIC, _FREQUENT_CYRILLIC, _MIN_CYRILLIC = 0xE0, "оеаинт".encode("cp1251"), 8
_MIN_COMMON, _MIN_KANA, _MIN_HANGUL, _MIN_NUL = 0.7, 0.15, 0.6, 0.3


def decode_text(content: bytes) -> tuple[str, str] | None:
    """Decodes a text, without its byte-order mark; `None` for data that is not text.

    Returns:
        The text, and the name of its encoding as Python knows it. Latin-1 is the guess for European text (with Windows'
        quotation marks, Windows-1252).
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return _try(content, name)
    if b"\0" in content:
        return _decode_wide(content)
    try:
        return content.decode(UTF_8).removeprefix("\ufeff"), UTF_8
    except UnicodeDecodeError:
        sample = content[:_SAMPLE_BYTES]
    return None if _is_broken(sample) else _try(content, _guess(sample))


def _is_broken(sample: bytes) -> bool:
    """Whether a text is UTF-8 with a few wrong bytes, or halves of surrogate pairs, and so nothing else."""
    high = sum(map(len, _RUN.findall(sample)))
    return sum(map(len, _UTF_8.findall(sample))) >= _MIN_UTF_8 * high


def _try(content: bytes, name: str) -> tuple[str, str] | None:
    try:
        text = content.decode(name)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else (text, name)


def _decode_wide(content: bytes) -> tuple[str, str] | None:
    """UTF-16 without a mark: every second byte of ASCII is zero, on one side alone."""
    sample = content[:_SAMPLE_BYTES]
    even, odd = sample[::2].count(0) / max(len(sample[::2]), 1), sample[1::2].count(0) / max(len(sample[1::2]), 1)
    if odd >= _MIN_NUL and even == 0:
        return _try(content, "utf-16-le")
    if even >= _MIN_NUL and odd == 0:
        return _try(content, "utf-16-be")
    return None


def _guess(sample: bytes) -> str:
    runs = [run[0] for run in _RUN.finditer(sample)]
    high = b"".join(runs)
    if sum(len(run) == 1 for run in runs) > len(runs) / 2 and not _is_multibyte(sample):
        return _guess_single(high)
    pairs = _PAIRS.findall(sample)
    shares = {
        name: sum(map(len, found.findall(b"".join(pairs)))) / (2 * max(len(pairs), 1))
        for name, found in _COMMON_PAIRS.items()
    }
    for name in ("shift_jis", "euc_jp", "euc_kr"):
        text = _decode_sample(sample, name)
        if text is None:
            continue
        letters = max(sum(letter > "\x7f" for letter in text), 1)
        if len(_HALF_KANA.findall(text)) > letters / 4:
            continue
        if name == "euc_kr" and len(_HANGUL.findall(text)) / letters >= _MIN_HANGUL and _is_korean(pairs):
            return "cp949"
        if name != "euc_kr" and len(_KANA.findall(text)) / letters >= _MIN_KANA:
            return {"shift_jis": "cp932", "euc_jp": "euc_jp"}[name]
    if shares["gb18030"] >= _MIN_COMMON and _decode_sample(sample, "gb18030") is not None:
        return "gb18030"
    if shares["big5"] >= _MIN_COMMON and _decode_sample(sample, "big5") is not None:
        return "big5"
    if _decode_sample(sample, "gb18030") is not None and shares["gb18030"] >= _MIN_COMMON / 2:
        return "gb18030"
    return _guess_single(high)


def _is_multibyte(sample: bytes) -> bool:
    """Whether single high bytes begin pairs, whose second byte may be ASCII in Shift-JIS."""
    text = _decode_sample(sample, "cp932")
    return text is not None and len(_KANA.findall(text)) >= _MIN_KANA * max(sum(letter > "\x7f" for letter in text), 1)


def _is_korean(pairs: list[bytes]) -> bool:
    """Whether first bytes are those of Hangul alone, which end where a third of Chinese begins."""
    first = [pair[0] for pair in pairs]
    return sum(0xB0 <= byte <= 0xC8 or byte in (0xA1, 0xA3) for byte in first) >= 0.95 * max(len(first), 1)


def _guess_single(high: bytes) -> str:
    """Windows-1251 if most are its small letters and frequent ones; else Latin-1, or Windows-1252 with its marks."""
    small, frequent = sum(byte >= _CYRILLIC for byte in high), sum(byte in _FREQUENT_CYRILLIC for byte in high)
    if len(high) >= _MIN_CYRILLIC and small >= 0.7 * len(high) and frequent >= 0.35 * len(high):
        return "cp1251"
    return "cp1252" if any(0x80 <= byte <= 0x9F for byte in high) else "latin-1"


def _decode_sample(sample: bytes, name: str) -> str | None:
    """A sample decoded, which may end within a character."""
    decoder = codecs.getincrementaldecoder(name)()
    try:
        return decoder.decode(sample)
    except UnicodeDecodeError:
        return None
