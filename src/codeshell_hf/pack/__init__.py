"""Packing: token shards on disk, and packed rows in an order that follows from the seed."""
