"""The rules that stop, pause or promote a trial at a rung."""
