"""Models of codes: p(digits | digits known so far). What enters: a token grid. What leaves: questions with frequencies.

base uniform            the conversation every prior holds; raw bits
masked exact freeze     the learned prior: trained in floating point, run and stored in integers
adaptive                learns while it codes; for tokenizers without a learned prior
causal                  the paper's autoregressive Transformer, for comparison
layout passes conversation arithmetic train     what they are made of
"""
