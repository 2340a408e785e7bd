"""Whether a cluster can run trials: a look at every node and at the network between them, before anything starts."""
