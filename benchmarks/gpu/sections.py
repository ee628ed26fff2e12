"""The sections of a run, the most important first, and the results that were predicted before any was run."""

from dataclasses import dataclass

SMALL = ("--preset", "codeshell-small", "--rows", "2048", "8192", "--steps", "6", "--warmup", "2")
SEVEN = ("--preset", "codeshell-7b", "--layers", "8", "--compile", "--whole", "--steps", "4", "--warmup", "2")
# All 42 layers on one card of 80 GB, with what `codeshell plan` says fits.
WHOLE_SEVEN = (
    "--preset", "codeshell-7b", "--compile", "--recompute", "--whole", "--rows", "2048",
    "--micro-batches", "2", "--steps", "3", "--warmup", "1", "--attention", "varlen",
    "--moments", "8bit", "--weights", "bfloat16", "--precision", "bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One process of a run.

    Args:
        module: In `benchmarks.gpu`.
        function: Takes a `Report` and `given`.
        limit_s: Time limit; on a new machine the first import and build take 15 to 30 seconds of it.
        given: Options of the benchmark that it calls.
    """

    module: str
    function: str
    limit_s: int
    given: tuple[str, ...] = ()


# Not all of these fit into ten minutes. Those left out are listed, and can be named in a second run.
SECTIONS = {
    "machine": Section("machine", "measure_machine", 45),
    "golden": Section("correctness", "compare_goldens", 45),
    "packed": Section("correctness", "compare_packed", 90),
    "fsdp": Section("training", "measure_steps", 70, (*SMALL, "--rows", "2048", "--sharding", "fsdp2", "--whole")),
    "train-compiled": Section("training", "measure_steps", 130, (*SMALL, "--compile")),
    "loop": Section("loop", "kill_and_resume", 240),
    "seven-2048": Section("training", "measure_steps", 100, (*SEVEN, "--rows", "2048")),
    "train-eager": Section("training", "measure_steps", 80, SMALL),
    "peer": Section("training", "measure_peer", 80, SMALL),
    "variants": Section("training", "measure_variants", 300),
    "seven-whole": Section("training", "measure_steps", 150, WHOLE_SEVEN),
    "fp8": Section("correctness", "compare_fp8", 120),
    "chain": Section("chain", "run_stages", 240),
    "parts": Section("parts", "measure_parts", 45),
    "inference": Section("serving", "measure_inference", 150),
    "original": Section("serving", "measure_original", 120),
    "qlora": Section("adapters", "train_adapters", 120),
    "seven-8192": Section("training", "measure_steps", 100, (*SEVEN, "--rows", "8192")),
    "seven-8192-recomputed": Section("training", "measure_steps", 110, (*SEVEN, "--rows", "8192", "--recompute")),
}

# Predicted before the first run, from counted operations and bytes: matrix products at 620 TFLOP/s, 2.7 TB/s,
# FlashAttention 2 at 270 and 330 TFLOP/s. Of ranges of MFU, the lower end is for an H100 and the upper for an H200.
# Limits of errors are in the sections.
EXPECTED = {
    "machine": {"matrices of 8192 x 8192 x 8192": "750 or more"},
    "train-eager": {
        "codeshell-small, rows of 2,048, whole": "0.36 to 0.40",
        "codeshell-small, rows of 8,192, whole": "0.35 to 0.39",
    },
    "train-compiled": {
        "codeshell-small, rows of 2,048, whole": "0.41 to 0.45",
        "codeshell-small, rows of 8,192, whole": "0.38 to 0.42",
    },
    "peer": {
        "stock Starcoder2, rows of 2,048, whole": "0.27 to 0.34",
        "stock Starcoder2, rows of 8,192, whole": "0.26 to 0.33",
    },
    "seven-2048": {"codeshell-7b, 8 layers, rows of 2,048, whole": "0.45 to 0.52"},
    "seven-8192": {"codeshell-7b, 8 layers, rows of 8,192, whole": "0.45 to 0.52"},
    "parts": {
        "loss, 956 positions at a time": "48",
        "attention, rows of 2,048, flash": "270",
        "attention, rows of 8,192, flash": "330",
        "attention, rows of 2,048, varlen": "270",
        "attention, rows of 8,192, varlen": "330",
    },
    "seven-whole": {
        "codeshell-7b, moments in 8bit, weights in bfloat16, rows of 2,048, whole": "0.42",
    },
    "loop": {"step that the run goes on at": "10", "seconds that saving holds a step": "5 or less"},
    "inference": {
        f"codeshell-7b sdpa {batch}x2048 {way}, share of Starcoder2": "1 or more"
        for batch in (1, 16)
        for way in ("forward", "prefill", "decode", "decode, static cache, compiled")
    },
    "original": {
        f"codeshell-7b, {batch}x2048, {way} beside the original": f"{least} or more"
        for batch in (1, 16)
        for way, least in (("prefill", 3), ("decode", 2))
    },
}
