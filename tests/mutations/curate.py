"""Mutations of curation."""

from tests.mutations import Mutation

SRC = "src/codeshell_hf/curate/"
TESTS = "tests/curate/"

MUTATIONS = (
    Mutation(
        SRC + "redaction.py",
        r"[A-Za-z]{2,18}\b(?!\()",
        r"[A-Za-z]{2,3}\b(?!\()",
        TESTS + "test_redaction.py",
        "e-mail addresses under long top-level domains stay",
    ),
    Mutation(
        SRC + "redaction.py",
        "return address.is_global and not",
        "return not address.is_global and not",
        TESTS + "test_redaction.py",
        "private addresses are replaced, public ones stay",
    ),
    Mutation(
        SRC + "verdicts.py",
        "staying = rows[codes[rows] == 0]",
        "staying = rows",
        TESTS + "test_verdicts.py",
        "a later reason replaces the first",
    ),
    Mutation(
        SRC + "rules.py",
        'signal < daft.lit(threshold) if rule.startswith("min_")',
        'signal <= daft.lit(threshold) if rule.startswith("min_")',
        TESTS + "test_rules.py",
        "a minimum drops what reaches it",
    ),
    Mutation(
        SRC + "rules.py",
        "for name, broken in reversed(verdicts):",
        "for name, broken in verdicts:",
        TESTS + "test_rules.py",
        "the last rule gives the reason",
    ),
    Mutation(
        SRC + "rights.py",
        'return all(name.strip("() ") in allowed',
        'return any(name.strip("() ") in allowed',
        TESTS + "test_rights.py",
        "one allowed licence of several suffices",
    ),
    Mutation(
        SRC + "duplicates.py",
        "_DESCENDING = [True, True, False]",
        "_DESCENDING = [True, False, False]",
        TESTS + "test_duplicates.py",
        "of duplicates the one with the fewest stars stays",
    ),
    Mutation(
        SRC + "duplicates.py",
        'if jaccard >= shared["min_jaccard"]:',
        'if jaccard >= 0.5 * shared["min_jaccard"]:',
        TESTS + "test_duplicates.py",
        "pairs at half the threshold are near",
    ),
    Mutation(
        SRC + "shingles.py",
        "return shared / (len(merged) - shared)",
        "return shared / len(merged)",
        TESTS + "test_shingles.py",
        "Jaccard over the sum of sizes, not the union",
    ),
    Mutation(
        SRC + "ngrams.py",
        "place + 1 - (place + 2) * share",
        "place + 1 - (place + 1) * share",
        TESTS + "test_ngrams.py",
        "Kneser-Ney's discounts",
    ),
    Mutation(
        SRC + "funnel.py",
        "if value > cuts[language]]",
        "if value < cuts[language]]",
        TESTS + "test_funnel.py",
        "the documents of lowest perplexity are dropped",
    ),
    Mutation(
        SRC + "funnel.py",
        "running[-1] * share]] = True",
        "max_tokens]] = True",
        TESTS + "test_funnel.py",
        "every language gets all tokens of the selection",
    ),
    Mutation(
        SRC + "split.py",
        'return "held-out" if uniform < held_out_fraction else "train"',
        'return "held-out" if uniform > held_out_fraction else "train"',
        TESTS + "test_split.py",
        "nearly all is held out",
    ),
    Mutation(
        SRC + "decontamination.py",
        "if len(np.unique(hits)) >= self._min_hits:",
        "if len(np.unique(hits)) > self._min_hits:",
        TESTS + "test_decontamination.py",
        "one hit more than asked for contaminates",
    ),
    Mutation(
        SRC + "regressor.py",
        "encode(order[held:]), encode(order[:held])",
        "encode(order), encode(order[:held])",
        TESTS + "test_regressor.py",
        "the regressor trains on the documents that it is measured on",
    ),
    Mutation(
        SRC + "annotation.py",
        "budget = Budget(max(endpoint.max_answers - len(cache), 0))",
        "budget = Budget(endpoint.max_answers)",
        TESTS + "test_annotation.py",
        "each run has the whole budget",
    ),
    Mutation(
        SRC + "sources/archives.py",
        'path.is_absolute() or ".." in path.parts',
        "path.is_absolute()",
        TESTS + "sources/test_archives.py",
        "names that climb out of an archive are safe",
    ),
    Mutation(
        SRC + "sources/archives.py",
        "limit = max(BOMB_BYTES, BOMB_RATIO * unit.size)",
        "limit = 1000 * max(BOMB_BYTES, BOMB_RATIO * unit.size)",
        TESTS + "sources/test_archives.py",
        "archive bombs are read",
    ),
    Mutation(
        SRC + "sources/folders.py",
        'return _CREDENTIALS.sub("", address) if address else None',
        "return address if address else None",
        TESTS + "sources/test_folders.py",
        "addresses of repositories carry passwords",
    ),
    Mutation(
        SRC + "sources/tables.py",
        "file.seek(unit.start - 1)",
        "file.seek(unit.start)",
        TESTS + "sources/test_tables.py",
        "a line that begins with its range is lost",
    ),
)
