"""Readers of what users have: each gives a `Source`, segments with where their audio is."""
