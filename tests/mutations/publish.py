"""Mutations of publishing."""

from tests.mutations import Mutation

WING = "src/codeshell_hf/publish"
TESTS = "tests/publish"

MUTATIONS = (
    Mutation(
        "recipes/publish.py",
        "        check_folder(each, private, texts)\n",
        "        pass\n",
        "tests/recipes/test_publish.py",
        "the check for secrets and paths before a push removed",
    ),
    Mutation(
        "recipes/publish.py",
        "    hide_paths(work.folder, private)\n",
        "",
        "tests/recipes/test_publish.py",
        "paths of this machine stay in manifests and page",
    ),
    Mutation(
        f"{WING}/push_checks.py",
        "    problems = check_files(folder, paths)\n",
        "    problems: list[str] = []\n",
        f"{TESTS}/test_push_checks.py",
        "files are not searched for secrets",
    ),
    Mutation(
        f"{WING}/push_checks.py",
        "for found in find_credentials(text)]",
        "for found in [*find_credentials(text)][:0]]",
        f"{TESTS}/test_push_checks.py",
        "secrets that were found are no problem",
    ),
    Mutation(
        f"{WING}/push_checks.py",
        "str(file.metadata() or {})",
        "str({})",
        f"{TESTS}/test_push_checks.py",
        "headers of safetensors are not read",
    ),
    Mutation(
        f"{WING}/push_checks.py",
        "            problems += _check_table(path, name, private_paths)\n",
        "",
        f"{TESTS}/test_push_checks.py",
        "tables are not searched for secrets",
    ),
    Mutation(
        f"{WING}/private_paths.py",
        "key=len, reverse=True)",
        "key=len)",
        f"{TESTS}/test_private_paths.py",
        "a folder is replaced before the paths in it",
    ),
    Mutation(
        f"{WING}/dataset.py",
        "[not any(next(find_credentials(value), None) for value in row) for row in rows]",
        "[True for row in rows]",
        f"{TESTS}/test_dataset.py",
        "documents with secrets are pushed",
    ),
    Mutation(
        f"{WING}/hub.py",
        "delete_patterns=list(STALE[kind])",
        "delete_patterns=[]",
        f"{TESTS}/test_hub.py",
        "shards of an earlier push stay",
    ),
    Mutation(
        f"{WING}/hub.py",
        "if push.revision is not None and not push.pull_request:",
        "if push.revision is not None and push.pull_request:",
        f"{TESTS}/test_hub.py",
        "a branch that is new is not created",
    ),
    Mutation(
        f"{WING}/folder.py",
        "    if difference > max_difference:\n",
        "    if difference < -max_difference:\n",
        f"{TESTS}/test_folder.py",
        "a folder with other logits is published",
    ),
    Mutation(
        f"{WING}/folder.py",
        "or not torch.equal(value, weights[name].cpu())",
        "",
        f"{TESTS}/test_folder.py",
        "weights with other bits are not noticed",
    ),
    Mutation(
        "src/codeshell_hf/modeling_codeshell.py",
        "(state.table[bytes_ >> 4], state.table[bytes_ & 15])",
        "(state.table[bytes_ & 15], state.table[bytes_ >> 4])",
        f"{TESTS}/test_four_bits.py",
        "the lower half of a byte is read first",
    ),
    Mutation(
        "src/codeshell_hf/modeling_codeshell.py",
        "[absmax.reshape(-1).int()] * inner_scales + offset",
        "[absmax.reshape(-1).int()] * inner_scales",
        f"{TESTS}/test_four_bits.py",
        "the offset of nested scales is left out",
    ),
    Mutation(
        f"{WING}/gguf.py",
        "            type_ = GGMLQuantizationType.Q8_0\n",
        "            pass\n",
        f"{TESTS}/test_gguf.py",
        "the embedding of a 4-bit file is rounded to 4 bits",
    ),
    Mutation(
        f"{WING}/gguf.py",
        "writer.add_head_count_kv(config.num_query_groups or config.n_head)",
        "writer.add_head_count_kv(config.n_head)",
        f"{TESTS}/test_gguf.py",
        "GGUF counts a key head for each query head",
    ),
    Mutation(
        f"{WING}/card.py",
        "undefined=jinja2.StrictUndefined",
        "undefined=jinja2.Undefined",
        f"{TESTS}/test_card.py",
        "a figure that nobody measured is a gap",
    ),
    Mutation(
        f"{WING}/comparison.py",
        'FREE = ("shards", "output")',
        'FREE = ("shards", "output", "seed")',
        f"{TESTS}/test_comparison.py",
        "runs with other seeds are compared",
    ),
    Mutation(
        f"{WING}/tensors.py",
        "weights_only=True",
        "weights_only=False",
        f"{TESTS}/test_conversion.py",
        "a released pickle runs code",
    ),
)
