"""Frames of cardiac MR data sets."""
