"""The search space and what proposes points in it; the only room that imports Optuna."""
