"""Digests of published benchmarks, by name and part, as `published.digest_rows` makes them of problems and tests."""

DIGESTS = {
    "HumanEval": {"py": "4323ec2bbc8e18b3"},
    "MBPP": {"11 to 510": "16ee328d2b4636dc", "all": "67f3a1e6e5421aca"},
    "MultiPL-E": {
        "cpp": "72202ef7aa5ed1a6",
        "d": "3d7f65a2a9e93559",
        "java": "bea7f323ac015e49",
        "jl": "86809195cc87fa8c",
        "js": "fb6fdc4fec2588b4",
        "lua": "98c7b1cf81b0618e",
        "php": "71793909bf0e654d",
        "r": "821f746c9cbb8074",
        "rkt": "ede0e7baaceeed87",
        "rs": "1a21a355692c923e",
        "swift": "e4f3737e84e3cd38",
    },
    "HumanEval-Infilling single lines": {"py": "9ced8317e569841d"},
    "HumanEval-Infilling random spans, light": {"py": "77dfbd25cab30848"},
    "SantaCoder FIM": {"java": "0309a087d98e1158", "py": "b7349bfe5b5ea449", "js": "55022249ba378cda"},
    "GSM8K": {"test": "393cc2e8d3db4f66"},
    "MMLU": {
        "computer_security": "30f4bb946e289bb6",
        "high_school_computer_science": "e45e141591a0107f",
        "machine_learning": "ad84b0aaf95a530b",
        "college_computer_science": "a14ad601e47184b4",
    },
}
