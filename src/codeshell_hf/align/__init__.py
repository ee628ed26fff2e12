"""Alignment: conversations that say which words are the assistant's."""
