"""Differences of llama.cpp's logits from the model's for each GGUF type, and the speed of generation of both.

python -m benchmarks.llama_cpp runs/nano/publish/model

Needs `pip install llama-cpp-python`, which compiles for ten minutes. Each file is run in a process of its own, with
keys and values in 32 bits, one thread and no FlashAttention, on the same tokens as the model in float32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine

TEXT = "def area(r):\n    return 3.14 * r ** 2  # 面积 12345\n"
LLAMA = """
import json, sys, time
from llama_cpp import Llama
path, text, new = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
model = Llama(path, logits_all=True, n_ctx=512, verbose=False, type_k=0, type_v=0, flash_attn=False, n_threads=1)
ids = model.tokenize(text, add_bos=False, special=False)
model.eval(ids)
logits = [row.tolist() for row in model.scores[: len(ids)]]
started = time.perf_counter()
for token, _ in zip(model.generate(ids, top_k=1, temp=0.0), range(new)):
    pass
print(json.dumps({"ids": ids, "logits": logits, "rate": new / (time.perf_counter() - started)}))
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama_cpp", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="a model's folder, with its tokenizer")
    parser.add_argument("--new-tokens", type=int, default=100)
    add_output(parser)
    options = parser.parse_args(arguments)
    if find_spec("llama_cpp") is None:
        print("llama.cpp is not installed; pip install llama-cpp-python", file=sys.stderr)
        return 2
    import torch
    import transformers

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.loading import load_model
    from codeshell_hf.publish.gguf import TYPES, export_gguf

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = load_model(str(options.model), dtype=torch.float32)
    ids = CodeShellTokenizer.from_pretrained(options.model).encode_text(TEXT)
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        expected = model(prompt).logits[0]
        started = time.perf_counter()
        model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
            min_new_tokens=options.new_tokens, max_new_tokens=options.new_tokens,
        )  # fmt: skip
        rate = options.new_tokens / (time.perf_counter() - started)
    table = Result(
        describe_machine("torch", "llama-cpp-python"),
        [f"one thread; {len(ids)} tokens, logits up to {float(expected.abs().max()):.1f}; {options.new_tokens} new"],
        {"file": "14", "MB": "8.1f", "largest difference": "20.4f", "likeliest the same": "20.0%", "tokens/s": "10.0f"},
    ).start("benchmarks.llama_cpp", arguments)
    table.add("transformers", None, None, None, rate)
    with tempfile.TemporaryDirectory() as place:
        for kind in TYPES:
            path = Path(place) / f"{kind}.gguf"
            size = export_gguf(options.model, path, kind)["bytes"] / 1e6
            done = subprocess.run(
                [sys.executable, "-c", LLAMA, str(path), TEXT, str(options.new_tokens)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                table.note(f"{kind}: llama.cpp ended with {done.returncode}")
                continue
            answer = json.loads(done.stdout.splitlines()[-1])
            if answer["ids"] != ids:
                print(f"{kind}: llama.cpp splits the text in another way", file=sys.stderr)
                return 1
            theirs = torch.tensor(answer["logits"])
            agreeing = (theirs.argmax(-1) == expected.argmax(-1)).float().mean().item()
            difference = float((theirs - expected).abs().max())
            table.add(kind, size, difference, agreeing, answer["rate"])
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
