"""The process that trains or scores: its memory, and its rank among the processes of a DDP group."""
