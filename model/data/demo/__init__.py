"""The demo corpus: made in seconds on any machine, with something in it for a study to find."""
