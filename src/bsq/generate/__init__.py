"""New codes from a masked model of them. What enters: a class, known digits. What leaves: digits.

grouping noise schedule      sub-codes; numbers drawn by counting; how many stay unknown
body network                 the masked Transformer
order guidance sampler       which digits come first, how much the class counts, and the drawing itself
likelihood                   the same model as an entropy model: the length of given codes
folder classes               a trained generator on disk, the tokenizer it belongs to, its classes' names
edit repair                  inpainting, outpainting, another class; what a damaged stream lacks; further frames
"""
