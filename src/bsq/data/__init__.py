"""Pictures, folders and shards: from files to pixels and back."""
