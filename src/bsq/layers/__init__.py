"""The parts that transformers are made of: patches, positions, windows, attention, blocks."""
