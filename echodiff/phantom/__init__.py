"""Parametric 3D heart and the simulators that render slices of it."""
