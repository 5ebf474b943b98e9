"""Frames of DICOM files."""
