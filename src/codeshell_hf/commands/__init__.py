"""The `codeshell` command: one module a subcommand."""
