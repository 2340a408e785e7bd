"""Weights on disk: checkpoints of a run, weights to start from, and the layout of published checkpoints."""
