"""What a study shows: statistics over utterances, speakers and seeds."""
