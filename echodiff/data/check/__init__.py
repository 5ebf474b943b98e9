"""`echodiff check`: validate a frames folder and look for identifiers."""
