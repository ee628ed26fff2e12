"""Tools that the wings share: chat prompts, decoding, a client, a cache on disk, intervals, documents and shards."""
