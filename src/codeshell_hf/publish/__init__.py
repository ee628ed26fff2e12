"""Publishing: a folder for the Hub with a card and a page, filled from manifests."""
