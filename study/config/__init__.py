"""The study file: what is searched, by which rules, where; and the named baselines."""
