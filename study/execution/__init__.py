"""Running the trials of a study on Ray Tune: what is next, what follows a failure, what is recorded."""
