"""vLLM's plug-in: with this package installed, `vllm serve` knows CodeShell without remote code.

vLLM calls `register` in each of its processes, by the entry point `vllm.general_plugins`.
"""


def register() -> None:
    """Makes vLLM's Transformers backend find CodeShell by its configuration's name and its class's."""
    # A server may read the configuration by the folder's own code; models are known before any configuration is ours.
    from codeshell_hf import CodeShellForCausalLM  # noqa: F401  (registers them)
