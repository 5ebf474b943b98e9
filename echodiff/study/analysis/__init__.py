"""Statistics of a reader study: numpy and scipy alone, no database."""
