"""Segment videos from one mask each, and measure: python evaluate.py --help."""

from eosvos.config.messages import command

if __name__ == "__main__":
    command("evaluate")
