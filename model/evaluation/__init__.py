"""Scoring sets of a corpus: word error rate, perplexity, perplexity of the internal language model."""
