"""Mutations of the tokenizer builder."""

from tests.mutations import Mutation

TESTS = "tests/tokenizer/"

MUTATIONS = (
    Mutation(
        "src/codeshell_hf/text/splits.py",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
        r"| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|",
        "tests/text/test_splits.py",
        "GPT-4's split leaves line ends off the punctuation",
    ),
    Mutation(
        "src/codeshell_hf/text/splits.py",
        r"(?:(?!{_BORDERS})[\s\S]){{1,512}}",
        r"(?:(?!{_BORDERS})[\s\S])+",
        "tests/text/test_splits.py",
        "a long text without a border stops the engine",
    ),
    Mutation(
        "tokenizer/bpe.py",
        "np.flatnonzero(pieces[1:] != pieces[:-1]) + 1",
        "np.flatnonzero(pieces[1:] == pieces[:-1]) + 1",
        TESTS + "test_bpe.py",
        "entries across words cross digits and stay within words",
    ),
    Mutation(
        "tokenizer/bpe.py",
        "return wrap_backend(_make_backend(joined, ACROSS_WORDS), max_positions",
        "return wrap_backend(_make_backend(joined, split), max_positions",
        TESTS + "test_bpe.py",
        "entries across words are never used",
    ),
    Mutation(
        "tokenizer/merged.py",
        "*(left + right for left, right in vocabulary.merges[:keep_first])",
        "*(left + right for left, right in vocabulary.merges[:1])",
        TESTS + "test_merged.py",
        "the first merges are pruned",
    ),
    Mutation(
        "tokenizer/merged.py",
        "| (old[ids[1:]] & old[ids[:-1]])",
        "| (old[ids[1:]] & ~old[ids[:-1]])",
        TESTS + "test_merged.py",
        "new merges join tokens of ASCII",
    ),
    Mutation(
        "tokenizer/merged.py",
        "key=lambda token: (-uses[token], token)",
        "key=lambda token: (uses[token], token)",
        TESTS + "test_merged.py",
        "the tokens that are used least are kept",
    ),
    Mutation(
        "tokenizer/merged.py",
        "        if len(tokens) == size:",
        "        if len(tokens) == size - 1:",
        TESTS + "test_merged.py",
        "one entry fewer than asked for",
    ),
    Mutation(
        "tokenizer/corpus.py",
        'read_documents(path, split="train", columns',
        'read_documents(path, split="held-out", columns',
        TESTS + "test_corpus.py",
        "the tokenizer is built on the held-out documents",
    ),
    Mutation(
        "tokenizer/corpus.py",
        "if taken + size / 2 < seen * share:",
        "if taken < size * share:",
        TESTS + "test_corpus.py",
        "a sample is the start of its source",
    ),
    Mutation(
        "tokenizer/transplant.py",
        "return -(-vocab_size // ROWS_DIVIDE_BY) * ROWS_DIVIDE_BY",
        "return vocab_size // ROWS_DIVIDE_BY * ROWS_DIVIDE_BY",
        TESTS + "test_transplant.py",
        "fewer rows than entries",
    ),
    Mutation(
        "tokenizer/transplant.py",
        "moved[row] = weight[pieces].float().mean(0)",
        "moved[row] = weight[pieces].float().sum(0)",
        TESTS + "test_transplant.py",
        "new rows are the sum of their pieces",
    ),
    Mutation(
        "tokenizer/report.py",
        "characters[key] / max(counts[key], 1)",
        "counts[key] / max(characters[key], 1)",
        TESTS + "test_report.py",
        "tokens a character, not characters a token",
    ),
    Mutation(
        "tokenizer/report.py",
        'read_documents(documents, split="held-out"',
        'read_documents(documents, split="train"',
        TESTS + "test_report.py",
        "the tokenizer is measured on what it was built on",
    ),
    Mutation(
        "tokenizer/vocabulary.py",
        "if len(pieces) != 1 or pieces[0].value != token:",
        "if len(pieces) > 2:",
        TESTS + "test_vocabulary.py",
        "dead tokens are not found",
    ),
)
