"""The recipe: everything that one training run needs, as one frozen value, and recipes as files."""
