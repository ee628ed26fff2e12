"""One file a question: correctness first, then the peer in the same process; median and spread."""
