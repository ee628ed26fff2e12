"""Mutations of the server."""

from tests.mutations import Mutation

WING = "src/codeshell_hf/serve"
TESTS = "tests/serve"

MUTATIONS = (
    Mutation(f"{WING}/editor_api.py", "piece.tokens[-1] if piece.tokens else None",
             "(piece.tokens or output.tokens)[-1]", f"{TESTS}/test_editor_api.py",
             "the end of a stream repeats its last token"),
    Mutation(f"{WING}/outputs.py", "        self._batching.cancel(self._job)\n", "        pass\n",
             f"{TESTS}/test_app.py", "a client that left keeps its places"),
    Mutation(f"{WING}/batching.py", "len(rows) * longest <= self.max_batch_tokens", "True", f"{TESTS}/test_batching.py",
             "the batch is not limited by tokens"),
    Mutation(f"{WING}/row_cache.py", "return self.mask.sum(-1, keepdim=True) - 1",
             "return self.mask.sum(-1, keepdim=True) * 0 + self.mask.shape[1] - 1", f"{TESTS}/test_batching.py",
             "positions count padding"),
    Mutation(f"{WING}/row_cache.py", "nn.functional.pad(part, (0, 0, length - part.shape[2], 0))",
             "nn.functional.pad(part, (0, 0, 0, length - part.shape[2]))", f"{TESTS}/test_batching.py",
             "keys are padded on the other side than the mask"),
    Mutation(f"{WING}/batching.py", 'f"{job.sampling.seed}/{number}"', 'f"{job.sampling.seed}"',
             f"{TESTS}/test_batching.py", "all choices are the same"),
    Mutation(f"{WING}/service.py", "(*sampling.stops, *self._stops)", "sampling.stops", f"{TESTS}/test_openai_api.py",
             "the end of a turn reaches clients"),
    Mutation(f"{WING}/sampling.py", "(before < sampling.top_p)", "(before + probabilities < sampling.top_p)",
             f"{TESTS}/test_sampling.py", "top-p leaves out the token that reaches it"),
    Mutation(f"{WING}/sampling.py", "torch.where(values > 0, values / factor, values * factor)", "values / factor",
             f"{TESTS}/test_sampling.py", "a repetition penalty favours unlikely tokens"),
    Mutation(f"{WING}/row_text.py", "self._held and self._held[0][1] <= self._released", "self._held",
             f"{TESTS}/test_row_text.py", "tokens of a stop are reported"),
    Mutation(f"{WING}/editor_api.py", '("stream" not in body and asked.repetition_penalty is not None)', "False",
             f"{TESTS}/test_editor_api.py", "the plug-ins of the original get JSON"),
    Mutation(f"{WING}/prompts.py", "extra + parameters.input_prefix + parameters.prompt",
             "extra + parameters.prompt + parameters.input_prefix", f"{TESTS}/test_editor_api.py",
             "the line up to the cursor stands before the lines above it"),
    Mutation(f"{WING}/access.py", "if self.hosts is not None and name not in self.hosts:", "if False:",
             f"{TESTS}/test_app.py", "any name leads to a server on loopback"),
    Mutation(f"{WING}/access.py", "origin is not None and not self._is_allowed(origin, host)", "False",
             f"{TESTS}/test_app.py", "pages of strangers are answered"),
    Mutation(f"{WING}/bodies.py", "                if len(received) > max_bytes:\n", "                if False:\n",
             f"{TESTS}/test_app.py", "a body without a length is read to its end"),
    Mutation(f"{WING}/bodies.py", "        json.dumps(body, ensure_ascii=False).encode()\n", "", f"{TESTS}/test_app.py",
             "half of a surrogate pair fails in the tokenizer"),
)  # fmt: skip
