"""The commands on single recipes: train, mix, evaluate, transcribe, import; run by `python -m model` and by decred-study."""
