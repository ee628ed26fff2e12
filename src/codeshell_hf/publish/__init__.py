"""Publishing: a folder for the Hub, a card and a page, all filled from manifests."""
