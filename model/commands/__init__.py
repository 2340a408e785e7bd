"""The commands on single recipes: train, evaluate, mix, import."""
