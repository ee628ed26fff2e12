"""Mutations of what stands below the wings: settings, manifests, credentials, precision, presets, processors."""

from tests.mutations import Mutation

SETTINGS, MANIFEST, CREDENTIALS, PRECISION, PRESETS, PROCESSORS, EXTENSIONS = (
    f"src/codeshell_hf/{name}.py"
    for name in ("settings", "manifest", "credentials", "precision", "presets", "processors", "extensions")
)
TOKENIZATION, REGISTRATION = (f"src/codeshell_hf/{name}.py" for name in ("tokenization_codeshell", "registration"))
TOKENIZATION_TESTS = "tests/test_tokenization_codeshell.py"

MUTATIONS = (
    Mutation(
        TOKENIZATION,
        '_CLASS_WITHOUT_CODE = "PreTrainedTokenizerFast"',
        '_CLASS_WITHOUT_CODE = "CodeShellTokenizer"',
        TOKENIZATION_TESTS,
        "a built folder needs trust_remote_code",
    ),
    Mutation(
        REGISTRATION,
        "if is_released or is_saved:",
        "if is_released:",
        TOKENIZATION_TESTS,
        "a tokenizer's own folder loads as transformers' class although the package is there",
    ),
    Mutation(
        TOKENIZATION,
        'PADDING = "<fim_pad>"',
        'PADDING = "<|endoftext|>"',
        f"{TOKENIZATION_TESTS} tests/align/test_examples.py",
        "collators take the loss off the end of text",
    ),
    Mutation(
        TOKENIZATION,
        "reach = 2 * room * self._longest_entry",
        "reach = 16 * room",
        TOKENIZATION_TESTS,
        "runs of white space are cut from a prompt that would fit",
    ),
    Mutation(
        TOKENIZATION,
        "or '|<end>' not in text -%}",
        "or '|<end>|' not in text -%}",
        TOKENIZATION_TESTS,
        "the template's own stop completes a forged one",
    ),
    Mutation(
        TOKENIZATION,
        "        {%- set waiting.system = '' -%}",
        "",
        TOKENIZATION_TESTS,
        "a system text stands before every question",
    ),
    Mutation(SETTINGS, 'extra="forbid"', 'extra="ignore"', "tests/test_settings.py", "unknown keys are ignored"),
    Mutation(SETTINGS, r"?[eE][-+]?\d+$", r"?[eE][-+]\d+$", "tests/test_settings.py", "3e4 is a text"),
    Mutation(
        SETTINGS,
        'found["type"] != "extra_forbidden"',
        'found["type"] == "extra_forbidden"',
        "tests/test_settings.py",
        "a mistyped key is reported as missing",
    ),
    Mutation(
        SETTINGS,
        "if values.get(section) is None:",
        "if section not in values:",
        "tests/test_settings.py",
        "an override cannot switch on a section that is null",
    ),
    Mutation(
        MANIFEST,
        'digest.update(len(part).to_bytes(8, "big"))',
        "pass",
        "tests/test_manifest.py",
        "hashes do not see where one part ends",
    ),
    Mutation(
        MANIFEST,
        "json.dumps(values, sort_keys=True, default=str)",
        "json.dumps(values, default=str)",
        "tests/test_manifest.py",
        "hashes depend on the order of keys",
    ),
    Mutation(
        MANIFEST,
        "status.st_size, status.st_mtime_ns",
        "status.st_size, 0",
        "tests/test_manifest.py",
        "a touched file",
    ),
    Mutation(
        MANIFEST,
        "[manifest.fingerprint, hash_folder(path) if is_small else manifest.outputs]",
        "[manifest.fingerprint]",
        "tests/test_manifest.py",
        "an input is known by what made it alone, not by its content",
    ),
    Mutation(
        MANIFEST,
        "hash_folder(path) if is_small else manifest.outputs",
        "manifest.outputs",
        "tests/test_manifest.py",
        "a tokenizer.json that was exchanged is not noticed",
    ),
    Mutation(
        MANIFEST,
        'if "__pycache__" not in file.parts]',
        "]",
        "tests/test_manifest.py",
        "bytecode beside an input makes it another",
    ),
    Mutation(
        CREDENTIALS,
        "place = data.find(mark, end) if end >= 0 else -1",
        "place = -1",
        "tests/test_credentials.py",
        "only the first occurrence of a mark in a file is checked",
    ),
    Mutation(
        CREDENTIALS,
        'number += data.count(b"\\n", place, start)',
        'number = data.count(b"\\n", place, start)',
        "tests/test_credentials.py",
        "line numbers of the second finding",
    ),
    Mutation(CREDENTIALS, '"GitHubTokenDetector", ', "", "tests/test_credentials.py", "GitHub's tokens pass"),
    Mutation(CREDENTIALS, "[A-Za-z]{30,}", "[A-Za-z]{40,}", "tests/test_credentials.py", "the Hub's tokens pass"),
    Mutation(
        PRECISION,
        'requested == "bfloat16" or speedup >= MIN_SPEEDUP',
        'requested == "bfloat16" or speedup < MIN_SPEEDUP',
        "tests/test_precision.py::test_auto_takes_bfloat16_from_a_fifth_faster_on",
        "bfloat16 is chosen where it is slow",
    ),
    Mutation(
        PRECISION,
        "return exact / max(rounded, 1e-9)",
        "return rounded / max(exact, 1e-9)",
        "tests/test_precision.py::test_the_ratio_is_that_of_the_times",
        "the ratio of times is turned round",
    ),
    Mutation(
        PRECISION,
        "precision.speedup < 1:",
        "precision.speedup > 1:",
        "tests/test_precision.py::test_bfloat16_that_is_slow_is_warned_of_with_its_ratio",
        "no warning",
    ),
    Mutation(
        PRESETS, "width + 2 * groups * head", "width + groups * head", "tests/test_presets.py", "keys and no values"
    ),
    Mutation(
        PRESETS,
        "(1 if config.tie_word_embeddings else 2)",
        "(2 if config.tie_word_embeddings else 1)",
        "tests/test_presets.py",
        "a tied embedding counted twice",
    ),
    Mutation(
        PRESETS,
        "PRESETS[name] | changes",
        "changes | PRESETS[name]",
        "tests/test_presets.py",
        "changes are lost",
    ),
    Mutation(
        PROCESSORS,
        "quota / period",
        "period / quota",
        "tests/test_precision.py::test_quotas_are_those_of_the_groups_and_all_above",
        "the quota upside down",
    ),
    Mutation(
        PROCESSORS,
        "-int(-quota // 1)",
        "int(quota // 1)",
        "tests/test_precision.py::test_usable_processors_are_the_fewest",
        "half a processor is none",
    ),
    Mutation(
        PROCESSORS,
        "share = max(1, count_usable_cpus() // max(1, ranks))",
        "share = max(1, count_usable_cpus())",
        "tests/test_precision.py::test_threads_are_a_ranks_share_and_no_more_than_asked",
        "every rank takes all processors",
    ),
    Mutation(
        EXTENSIONS,
        "_load_module(path, status.st_mtime_ns)",
        "_load_module(path, 0)",
        "tests/test_extensions.py",
        "a changed file of the user's own is not read again",
    ),
    Mutation(
        "src/codeshell_hf/curate/corpus.py",
        ", *map(hash_file, readers.values())",
        "",
        "tests/test_extending.py",
        "parts are not measured again when their reader changes",
    ),
    Mutation(
        "recipes/curate.py",
        "*settings.rules.custom",
        "",
        "tests/test_extending.py",
        "a stage is skipped although a rule of the user's own has changed",
    ),
    Mutation(
        "setup.py",
        "(?![a-z][a-z0-9+.-]*:|#|/)",
        "(?![a-z][a-z0-9+.-]*:|#|/|docs)",
        "tests/test_project.py",
        "relative links on PyPI",
    ),
)
