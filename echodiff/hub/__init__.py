"""Weights and generated sets to a model hub and back: `echodiff push`, `echodiff pull`."""
