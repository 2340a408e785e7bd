"""Training one recipe: preparation, the loop, the optimiser, what is tried and kept when a batch breaks."""
