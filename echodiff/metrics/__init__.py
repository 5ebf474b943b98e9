"""Measures of image sets: feature networks, distances between sets, prompt faithfulness."""
