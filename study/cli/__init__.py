"""The command line `decred-study`."""
