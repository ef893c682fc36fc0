"""Millions of pictures and videos to shards of tokens, on one machine or a Ray cluster."""
