"""Corpora: what is on disk, how text is normalised, and how a corpus is made from speech or from a table."""
