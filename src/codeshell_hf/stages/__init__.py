"""Stages: settings, skipping, a folder that is whole or absent, a manifest, an exit code."""
