"""A study that runs on a cluster, from this machine: submitting, listing, reading, following and stopping it."""
