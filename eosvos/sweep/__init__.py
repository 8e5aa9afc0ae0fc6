"""Sweeps: what their jobs will be, how each is done once, and the table of what they reached."""
