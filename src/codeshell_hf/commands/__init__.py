"""The `codeshell` command: one module per subcommand."""
