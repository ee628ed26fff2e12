"""vLLM's plug-in: with this package installed, `vllm serve` knows CodeShell without remote code.

vLLM calls `register` in each of its processes, by the entry point `vllm.general_plugins`.
"""


def register() -> None:
    """Makes vLLM's Transformers backend find CodeShell by its configuration's name and its class's."""
    import codeshell_hf  # noqa: F401  (registers when it is imported)
