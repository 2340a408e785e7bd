"""The processes of a trial: its driver, its DDP workers and the messages between them."""
