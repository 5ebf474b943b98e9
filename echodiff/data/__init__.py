"""Convert data sets and clinical files to frames folders: one module per source."""
