"""eosvos: one-shot video object segmentation by learning how to fine-tune."""

__version__ = "0.1.0"
