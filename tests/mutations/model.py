"""Mutations of the model, its configuration and its tokenizer."""

from tests.mutations import Mutation

MODEL = "src/codeshell_hf/modeling_codeshell.py"
CONFIG = "src/codeshell_hf/configuration_codeshell.py"
TOKENIZER = "src/codeshell_hf/tokenization_codeshell.py"
LOGITS = "tests/test_modeling_codeshell.py"

MUTATIONS = (
    Mutation(MODEL, "self.scaling = self.head_dim**-0.5", "self.scaling = self.head_dim**-0.4", LOGITS,
             "the scale of the scores"),
    Mutation(MODEL, "return torch.cat((-second, first), dim=-1)", "return torch.cat((second, first), dim=-1)", LOGITS,
             "the sign of the rotation"),
    Mutation(MODEL, "hidden_states.repeat_interleave(repeats, dim=1)", "hidden_states.repeat(1, repeats, 1, 1)", LOGITS,
             "heads read another group's keys"),
    Mutation(MODEL, "std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)",
             "std = self.config.initializer_range", LOGITS, "no scaled initialisation"),
    Mutation(MODEL, "starts = starts | (position_ids[:, 1:] != position_ids[:, :-1] + 1)",
             "starts = starts | (position_ids[:, 1:] > position_ids[:, :-1] + 1)", "tests/test_packed_rows.py",
             "packed documents see each other"),
    Mutation(MODEL, "if cache is not None and past_key_values is not None and cache is not past_key_values:",
             "if False:", "tests/test_cache.py", "two caches, of which one is lost"),
    Mutation(MODEL, "value is not None and keyword not in HANDED_ON and (is_known or isinstance(value, Cache))",
             "value is not None and keyword not in HANDED_ON and is_known and isinstance(value, Cache)",
             "tests/test_cache.py tests/test_modeling_codeshell.py", "a mistyped keyword is swallowed"),
    Mutation(MODEL, "return hidden_states[:, -logits_to_keep:]", "return hidden_states[:, :logits_to_keep or None]",
             LOGITS, "logits of the first positions in place of the last"),
    Mutation(MODEL, 'ids = tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]',
             'ids = tokenizer(text, verbose=False)["input_ids"]', "tests/test_original.py",
             "special tokens in a question are live"),
    Mutation(MODEL, "torch.tensor([ids[-room:]]", "torch.tensor([ids[:room]]", "tests/test_original.py",
             "a chat is cut on the right"),
    Mutation(MODEL, 'map_location="cpu", weights_only=True, mmap=is_zip', 'map_location="cpu", weights_only=False',
             "tests/test_original.py", "a 4-bit pickle runs code"),
    Mutation(MODEL, "stop.cancelled.set()\n", "pass\n", "tests/test_original.py",
             "a stream that is left generates on"),
    Mutation(MODEL, 'nn.Buffer(state.absmax.contiguous().view(torch.int32))', 'nn.Buffer(state.absmax.contiguous())',
             "tests/test_original.py", "scales are rounded with the model"),
    Mutation(CONFIG, "return [FULL if layer % 2 else even for layer in range(self.num_hidden_layers)]",
             "return [even if layer % 2 else FULL for layer in range(self.num_hidden_layers)]",
             "tests/test_configuration_codeshell.py", "the wrong layers slide"),
    Mutation(CONFIG, "if groups < 1 or heads % groups:", "if groups < 1:", "tests/test_configuration_codeshell.py",
             "groups that do not divide the heads"),
    Mutation(TOKENIZER, "return [before, *prefix_ids, after, *suffix_ids, middle]",
             "return [before, *suffix_ids, after, *prefix_ids, middle]", "tests/test_tokenization_codeshell.py",
             "prefix and suffix exchanged"),
    Mutation(TOKENIZER, "add_special_tokens=False, split_special_tokens=True", "add_special_tokens=False",
             "tests/test_tokenization_codeshell.py", "special tokens in text are live"),
    Mutation("src/codeshell_hf/presets.py", "query_key_value = width + 2 * groups * head",
             "query_key_value = width + groups * head", "tests/test_presets.py", "the values' parameters left out"),
)  # fmt: skip
