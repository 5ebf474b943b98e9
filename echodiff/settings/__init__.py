"""Settings of commands: a frozen dataclass becomes flags, YAML and help."""
