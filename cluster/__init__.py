"""Where trials run: connecting to Ray, admission, submission."""
