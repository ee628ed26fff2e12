"""Downloads what a GPU machine without network lacks, to be copied there: wheels, and the original code.

python -m benchmarks.gpu.wheels FOLDER [--original MODEL] [--transformers] [--chain runs/nano]

The machine has Python 3.12 on x86_64, torch 2.11 for CUDA 13, accelerate, peft and transformers 5.17. MODEL is the
folder `model` of the original repository (github.com/WisdomShell/codeshell); its code is copied beside the wheels that
it needs, and must not be committed. `--transformers` adds the version that this project is tested with. `--chain` is
for the section of that name: the nano system's tokenizer and packed shards, and what TRL needs; stages copied beside
them, `nano/sft` for example, are not run again. FOLDER then has
`wheels`, `original-wheels`, `original` and `nano`, less than 64 MB in total.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = (
    "annotated-types",
    "bitsandbytes",
    "pydantic",
    "pydantic_core",
    "torchao",
    "typing-inspection",
)  # as constraints.txt says
ALIGNING = ("datasets", "dill", "multiprocess", "trl")
PEERS = ("liger-kernel==0.8.5",)
ORIGINAL = ("huggingface-hub==0.25.2", "tokenizers==0.15.2", "transformers==4.36.2")
PLATFORMS = ("manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
KEPT = ("_cpu.so", "_cuda130.so")  # of bitsandbytes' 15 libraries
MAX_MB = 64


def read_pins(names: tuple[str, ...]) -> list[str]:
    """Reads the versions that this project is tested with."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in names]


def download(packages: list[str], folder: Path) -> None:
    """Downloads wheels for the machine, without their dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    command += [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    subprocess.run([*command, *packages], check=True)


def strip_libraries(wheel: Path) -> None:
    """Removes a wheel's shared libraries for other machines."""
    temporary = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as less:
        for name in whole.namelist():
            if not name.endswith(".so") or name.endswith(KEPT):
                less.writestr(name, whole.read(name))
    temporary.replace(wheel)


def main(arguments: list[str] | None = None) -> int:
    """Downloads and copies everything, and prints the sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.wheels", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to put it: a new folder")
    parser.add_argument("--original", type=Path, metavar="MODEL", help="the original code")
    parser.add_argument("--transformers", action="store_true", help="this project's own version, too")
    parser.add_argument("--chain", type=Path, metavar="RUNS", help="stages of a nano system that has been run")
    options = parser.parse_args(arguments)
    if options.chain and not (options.chain / "pack").is_dir():
        print(f"{options.chain} has no pack; name the folder of the nano system's stages", file=sys.stderr)
        return 2
    if options.original and not (options.original / "modeling_codeshell.py").is_file():
        print(f"{options.original} has no modeling_codeshell.py; name the original's folder model", file=sys.stderr)
        return 2
    if options.folder.exists() and any(options.folder.iterdir()):
        print(f"{options.folder} is not empty; name a new folder", file=sys.stderr)
        return 2
    ours = (*OURS, *(("transformers",) if options.transformers else ()), *(ALIGNING if options.chain else ()))
    download([*read_pins(ours), *PEERS], options.folder / "wheels")
    for wheel in (options.folder / "wheels").glob("bitsandbytes-*.whl"):
        strip_libraries(wheel)
    for stage in ("tokenizer", "pack") if options.chain else ():
        shutil.copytree(options.chain / stage, options.folder / "nano" / stage)
    if options.original:
        download(list(ORIGINAL), options.folder / "original-wheels")
        shutil.copytree(
            options.original, options.folder / "original", ignore=lambda _, names: {n for n in names if n[-3:] != ".py"}
        )
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path.relative_to(options.folder)}")
    total = sum(path.stat().st_size for path in files) / 1e6
    print(f"{total:6.2f} MB in all")
    if total >= MAX_MB:
        print(
            f"{total:.0f} MB are more than the {MAX_MB} that may be carried; leave --transformers out", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
