"""The commands on single recipes: train, mix, evaluate, transcribe, import; of `python -m model` and decred-study."""
