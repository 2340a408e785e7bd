"""Corpora on disk: what is in them, and making them from recordings that are checked first."""
