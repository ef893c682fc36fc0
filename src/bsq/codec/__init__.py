"""Streams: codes to files and back."""
