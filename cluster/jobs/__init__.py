"""Ray Jobs: what is uploaded, and submitting, listing, following and stopping jobs."""
