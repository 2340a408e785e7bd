"""Study files that come with decred-study, as package data."""
