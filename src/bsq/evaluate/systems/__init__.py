"""What is evaluated: tokenizers, autoencoders, codecs, each behind `System`."""
