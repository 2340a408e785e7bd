"""Messages to people about a study that runs: when there is one, how it is sent, and never in the study's way."""
