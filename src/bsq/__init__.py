"""Pictures and videos as short rows of bits, and back (binary spherical quantization, arXiv 2406.07548)."""

__version__ = "0.1.0"
