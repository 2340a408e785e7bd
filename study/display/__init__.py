"""What a person sees in the terminal: the table of trials and the live board."""
