"""The search space and what proposes points in it; everything that knows Optuna."""
