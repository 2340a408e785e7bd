"""Published DeCRED checkpoints: their config.json as a recipe and back, their tensor names, reading and writing."""
