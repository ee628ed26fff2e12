"""Alignment: conversations, preferences, and rewards that say which answers are good."""
