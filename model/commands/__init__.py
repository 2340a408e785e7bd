"""The commands on single recipes: train, mix, evaluate, import; run by `python -m model` and by decred-study."""
