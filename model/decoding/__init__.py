"""Decoding: beam search, the CTC prefix score, greedy CTC, and the mixing of classifiers."""
