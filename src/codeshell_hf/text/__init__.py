"""Tools that all wings share: chats, decoding, an API client, a disk cache, confidence intervals, documents, shards."""
