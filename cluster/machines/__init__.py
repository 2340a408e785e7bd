"""Machines of one's own: a head and workers that are started over ssh, and ended by the ids of their processes."""
