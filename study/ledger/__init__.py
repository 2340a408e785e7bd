"""A study's own record: typed events, the trials folded from them, who holds the folder."""
