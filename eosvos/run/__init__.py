"""Composition, stages and checks: what ties data, models, meta-learning and evaluation to a configuration."""
