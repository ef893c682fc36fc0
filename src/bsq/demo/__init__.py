"""The web page of `bsq demo`: what it computes, without gradio, and how it is laid out, with it."""
