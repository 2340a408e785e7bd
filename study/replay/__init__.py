"""Replay: what other strategies would have found in a study whose trials all ran to their end."""
