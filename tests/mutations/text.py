"""Mutations of the tools that the wings share: chats as tokens, decoding, the client, intervals, bits per byte."""

from tests.mutations import Mutation

CHAT, CODE, DECODE, INTERVALS, BITS, HELD_OUT, JUDGE, CLIENT, CACHE, SHARDS = (
    f"src/codeshell_hf/text/{name}.py"
    for name in (
        *("chat", "code", "decode", "intervals", "bits_per_byte"),
        *("held_out", "judge", "client", "cache", "shards"),
    )
)

MUTATIONS = (
    Mutation(
        CHAT,
        'tokenizer_kwargs={"split_special_tokens": True}',
        'tokenizer_kwargs={"split_special_tokens": False}',
        "tests/text/test_chat.py",
        "special tokens in what people write are alive in training",
    ),
    Mutation(
        CHAT,
        "split_special_tokens=is_message",
        "split_special_tokens=False",
        "tests/text/test_chat.py",
        "special tokens in a question are alive in prompts",
    ),
    Mutation(
        CHAT,
        "token if is_answer else NO_LOSS",
        "token",
        "tests/text/test_chat.py",
        "the loss falls on what the user says",
    ),
    Mutation(
        CHAT,
        "for label in piece.labels[1:]",
        "for label in piece.labels",
        "tests/text/test_chat.py",
        "a piece is kept whose one label is never predicted",
    ),
    Mutation(CODE, r"(?:\n```|\Z)", r"\n```", "tests/text/test_code.py", "a block that is never closed is not found"),
    Mutation(
        DECODE,
        "reached - probabilities < top_p",
        "reached < top_p",
        "tests/text/test_decode.py",
        "the token that reaches top_p is left out of the nucleus",
    ),
    Mutation(DECODE, "(logits / temperature)", "(logits * temperature)", "tests/text/test_decode.py", "temperature"),
    Mutation(
        DECODE,
        "{request.sampling.seed}/{request.id}/{number}",
        "{request.sampling.seed}/{request.id}",
        "tests/text/test_decode.py",
        "all samples of a prompt are the same",
    ),
    Mutation(
        DECODE,
        "active = [active[place] for place in alive]",
        "active = active[: len(alive)]",
        "tests/text/test_decode.py",
        "rows get the tokens of others when one ends",
    ),
    Mutation(
        DECODE,
        "if token in ends:",
        "if token in ends and self.ids:",
        "tests/text/test_decode.py",
        "an answer that ends at once goes on",
    ),
    Mutation(
        INTERVALS,
        "[new - old for old, new in",
        "[old - new for old, new in",
        "tests/text/test_intervals.py",
        "the sign of a change",
    ),
    Mutation(
        INTERVALS,
        "share + Z * Z / (2 * trials)",
        "share + Z * Z / trials",
        "tests/text/test_intervals.py",
        "the middle of Wilson's interval",
    ),
    Mutation(INTERVALS, "[0.025, 0.975]", "[0.05, 0.95]", "tests/text/test_intervals.py", "intervals of 90 %"),
    Mutation(
        INTERVALS,
        "above[drawn].sum(axis=1) / below[drawn].sum(axis=1)",
        "(above[drawn] / below[drawn]).mean(axis=1)",
        "tests/text/test_intervals.py",
        "a mean of ratios in place of a ratio of sums",
    ),
    Mutation(BITS, ".sum().item() / math.log(2)", ".sum().item()", "tests/text/test_bits_per_byte.py", "nats for bits"),
    Mutation(
        BITS,
        "window_tokens - 1)\n        windows",
        "window_tokens)\n        windows",
        "tests/text/test_bits_per_byte.py",
        "the first token of each window is predicted by nothing and costs nothing",
    ),
    Mutation(
        BITS,
        "math.log2(vocab_size) if len(ids) else 0.0",
        "0.0",
        "tests/text/test_bits_per_byte.py",
        "the first token of a document is free",
    ),
    Mutation(
        HELD_OUT,
        "if sums.get(language, 0) + size <=",
        "if size <=",
        "tests/text/test_held_out.py",
        "the limit holds for a document, not for a language",
    ),
    Mutation(
        JUDGE,
        "return verdicts[0] if verdicts[0] != verdicts[1] else None",
        "return verdicts[0]",
        "tests/text/test_judge.py",
        "a judge that favours a position is believed",
    ),
    Mutation(
        CLIENT,
        "if not failed.failure.may_be_about_length:",
        "if failed.failure.status != 400 and not failed.failure.is_refusal:",
        "tests/text/test_client.py",
        "any refusal counts as one of length",
    ),
    Mutation(
        CLIENT,
        "list(sampling.stops[:MOST_STOPS])",
        "list(sampling.stops)",
        "tests/text/test_client.py",
        "more stops than servers take",
    ),
    Mutation(
        CLIENT,
        "if not isinstance(choices, list) or not choices:",
        "if not isinstance(choices, list):",
        "tests/text/test_client.py",
        "a reply without a choice",
    ),
    Mutation(
        CLIENT,
        "while len(replies) < samples:",
        "for _ in range(1):",
        "tests/text/test_client.py",
        "fewer choices than asked for",
    ),
    Mutation(
        CLIENT,
        "context - prompt_tokens < wanted:\n            return",
        "context - prompt_tokens < wanted and False:\n            return",
        "tests/text/test_client.py",
        "what the server says of its context",
    ),
    Mutation(
        "src/codeshell_hf/manifest.py",
        'path.read_bytes().split(b"\\n")',
        "path.read_bytes().decode().splitlines()",
        "tests/test_manifest.py",
        "U+2028 ends a row",
    ),
    Mutation(
        CLIENT, "if self.used >= self._limit:", "if self.used > self._limit:", "tests/text/test_client.py", "budget"
    ),
    Mutation(
        CLIENT,
        "(get_token() if self.url is None else None)",
        "get_token()",
        "tests/text/test_client.py",
        "the Hub's token goes to any server",
    ),
    Mutation(
        CACHE,
        "is_cut = bool(lines and lines[-1]) or",
        "is_cut =",
        "tests/text/test_cache.py",
        "a row is appended to a line that was cut short",
    ),
    Mutation(
        SHARDS,
        "self.tokens[self.ends[document] - self.lengths[document] :",
        "self.tokens[self.ends[document] - self.lengths[document] + 1 :",
        "tests/text/test_shards.py",
        "a document without its first token",
    ),
    Mutation(
        SHARDS,
        "self.vocab_size <= 2**16",
        "self.vocab_size <= 2**17",
        "tests/text/test_shards.py",
        "ids over 65,535 in two bytes",
    ),
)
