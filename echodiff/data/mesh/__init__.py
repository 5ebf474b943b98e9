"""`echodiff prepare mesh`: slices of 3D hearts."""
