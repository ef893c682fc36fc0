"""The encoder (pixels → latent) and decoder (code → pixels): vision transformers on a grid of patches."""
