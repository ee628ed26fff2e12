"""vLLM's plug-in: with this package installed, `vllm serve` supports CodeShell without remote code.

vLLM calls `register` in each of its processes, through the entry point `vllm.general_plugins`.
"""


def register() -> None:
    """Makes vLLM's Transformers backend find CodeShell by the names of its configuration and class."""
    # A server may read the configuration by the folder's own code; models are known before any configuration is ours.
    from codeshell_hf import CodeShellForCausalLM  # noqa: F401  (registers them)
