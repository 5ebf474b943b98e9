"""From data sets and clinical files to frames folders: one module a source."""
