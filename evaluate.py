"""Segment videos from one mask each, and measure: python evaluate.py --help."""

from eosvos.commands import evaluate

if __name__ == "__main__":
    evaluate()
