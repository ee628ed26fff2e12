"""Writes a model and its tokenizer as one GGUF file for llama.cpp.

codeshell gguf runs/nano/publish/model runs/nano/gguf/codeshell-nano-f16.gguf
codeshell gguf runs/nano/publish/model runs/nano/gguf/codeshell-nano-q8_0.gguf --type q8_0
codeshell gguf runs/nano/publish/model runs/nano/gguf/codeshell-nano-q4_0.gguf --type q4_0
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
LLAMA_TYPES = ("q4_k_m", "q5_k_m", "q6_k")  # made by llama.cpp's own program, where it is installed


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file; returns 0, or 2 if called wrongly."""
    parser = make_parser("gguf", __doc__)
    parser.add_argument("folder", type=Path, help="a CodeShell model with its tokenizer")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    parser.add_argument(
        "--type", default="f16", choices=(*TYPES, *LLAMA_TYPES), help="of the matrices (default %(default)s)"
    )
    parser.add_argument("--name", help="the model's name in the file; by default the folder's")
    options = parser.parse_args(arguments)

    def work() -> None:
        from tqdm import tqdm

        from ..checkpoint_places import find_bundled, is_folder

        folder = Path(find_bundled(str(options.folder)))
        is_folder(str(folder))
        from ..publish.gguf import export_by_llama_cpp, export_gguf  # takes seconds to import

        with tqdm(desc="gguf", unit="tensor", leave=False) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            export = export_by_llama_cpp if options.type in LLAMA_TYPES else export_gguf
            counts = export(folder, options.file, options.type, name=options.name, on_progress=show)
        print(f"wrote {options.file}: {counts['tensors']} tensors, {counts['bytes'] / 1e6:.1f} MB, {options.type}")

    return run("gguf", work)
