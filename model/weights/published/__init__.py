"""The published DeCRED checkpoint: its config, its tensor names, read and written."""
