"""The process that trains or scores: its memory, and its place among the DDP ranks."""
