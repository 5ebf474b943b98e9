"""Frames of the EchoNet data sets."""
