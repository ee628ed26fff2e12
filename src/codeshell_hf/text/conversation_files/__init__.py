"""Reads conversations of any form from any file: one reader of fine-tuning, prompts and packing.

`raw_files` opens and finds files, `rows` splits them, `forms`, `trees` and `transcripts` find the turns in a row,
`turns` reads one turn, and `conversations` makes a `Conversation` of them. `findings` counts what happened on the way.
"""

from .findings import Findings
from .reading import ConversationSet, list_place_rows, parse_conversation, read_conversation_set, read_conversations

__all__ = [
    "ConversationSet",
    "Findings",
    "list_place_rows",
    "parse_conversation",
    "read_conversation_set",
    "read_conversations",
]
