"""Corpora on disk, made from speech or from a table; text normalisers, features, batches and the tokenizer."""
