"""Where weights come from: hub, tags, files, shards, archives, digests."""
