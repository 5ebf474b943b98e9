"""Captions: what is written about a frame, and reading the findings back from a text."""
