"""One-shot video object segmentation: fine-tuning on the first mask, propagation, online adaptation, merging
of objects (method, section 7).
"""
