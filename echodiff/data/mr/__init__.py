"""Loaders of cardiac MR data sets."""
