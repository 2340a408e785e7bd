"""Greedy and beam search with attention and CTC prefix scores, and the mixing of classifiers."""
