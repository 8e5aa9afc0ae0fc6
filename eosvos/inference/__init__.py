"""One-shot video object segmentation: fine-tune on the first mask, propagate, keep adapting, merge (method,
section 7).
"""
