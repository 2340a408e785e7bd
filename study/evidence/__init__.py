"""What the trials so far are worth as evidence: how well early figures rank as late ones do."""
