"""Weights on disk: checkpoints of a run, initial weights, checkpoints in the published layout."""
