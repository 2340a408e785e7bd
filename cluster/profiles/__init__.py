"""Profiles: a cluster as users describe it, a YAML file for each."""
