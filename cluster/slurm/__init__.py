"""Slurm: a batch job that brings up Ray on its nodes, runs a study there, and continues it when Slurm requeues it."""
