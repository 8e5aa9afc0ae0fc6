"""Networks that can be adapted to one object."""
