"""Alignment: conversations, preference pairs, reward models and rewards."""
