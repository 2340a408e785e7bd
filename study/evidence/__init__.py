"""How much the figures of a study can be trusted, such as those of a rung for a ranking of the trials."""
