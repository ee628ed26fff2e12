"""Packing: token shards on disk, and rows of them in an order that needs no memory."""
