"""Mutations of packing."""

from tests.mutations import Mutation

SRC = "src/codeshell_hf/pack/"
TESTS = "tests/pack/"

MUTATIONS = (
    Mutation(
        SRC + "infilling.py",
        "int(cut * (length + 1)) for cut in cuts",
        "int(cut * length) for cut in cuts",
        TESTS + "test_infilling.py " + TESTS + "test_rows.py",
        "middles never end with their document",
    ),
    Mutation(
        SRC + "infilling.py",
        "(prefix_id, suffix_id, after, middle_id, before, inside)",
        "(suffix_id, prefix_id, after, middle_id, before, inside)",
        TESTS + "test_infilling.py",
        "suffix-first documents begin with the suffix's sentinel",
    ),
    Mutation(
        SRC + "rows.py",
        "labels[row, filled] = IGNORED",
        "pass",
        TESTS + "test_rows.py",
        "the first token of a document is learned from the end of another",
    ),
    Mutation(
        SRC + "rows.py",
        "positions[row, place] = np.arange(len(piece))",
        "positions[row, place] = np.arange(filled, filled + len(piece))",
        TESTS + "test_rows.py",
        "positions run on through documents",
    ),
    Mutation(
        SRC + "rows.py",
        "np.random.default_rng([self.seed, epoch])",
        "np.random.default_rng([self.seed, 0])",
        TESTS + "test_rows.py",
        "every epoch has the order of the first",
    ),
    Mutation(
        SRC + "rows.py",
        "blocks = rng.permutation(int(ends[-1]) // self.block_tokens)",
        "blocks = np.arange(int(ends[-1]) // self.block_tokens)",
        TESTS + "test_rows.py",
        "blocks are not shuffled, so that a long file fills whole steps",
    ),
    Mutation(
        SRC + "shards.py",
        "if len(ids) and max(ids) >= header.vocab_size:",
        "if len(ids) and max(ids) > header.vocab_size:",
        TESTS + "test_rows.py " + TESTS + "test_shards.py",
        "an id as large as the vocabulary is packed",
    ),
    Mutation(
        SRC + "shards.py",
        'ends = pa.array(table["end"].to_numpy() + end)',
        'ends = pa.array(table["end"].to_numpy())',
        TESTS + "test_shards.py",
        "documents of later pieces end in the first",
    ),
    Mutation(
        SRC + "encoding.py",
        "applied = perturbation if split == TRAIN else None",
        "applied = perturbation",
        TESTS + "test_encoding.py",
        "held-out documents are perturbed",
    ),
    Mutation(
        SRC + "encoder.py",
        "    if different:",
        "    if different > len(texts):",
        TESTS + "test_encoder.py",
        "tiktoken is used though it gives other ids",
    ),
    Mutation(
        SRC + "perturbation.py",
        "if changed != text and _outline(changed.encode(), language) == outline:",
        "if changed != text:",
        TESTS + "test_perturbation.py",
        "changes that break a program are kept",
    ),
    Mutation(
        SRC + "perturbation.py",
        "outline.append((node.type, node.child_count))",
        "outline.append((node.type, 0))",
        TESTS + "test_perturbation.py",
        "trees of the same kinds of nodes but another shape count as the same",
    ),
    Mutation(
        SRC + "mixture.py",
        "parts.append(self.streams[number].read(self._count(block, number)",
        "parts.append(self.streams[number].read(block",
        TESTS + "test_mixture.py",
        "a shard's stream skips what the others are drawn for",
    ),
)
