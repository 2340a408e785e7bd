"""The demo corpus: made in seconds on any machine, with differences between recipes that a study can measure."""
