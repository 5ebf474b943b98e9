"""Parametric 3D heart and the simulators that picture a slice of it."""
