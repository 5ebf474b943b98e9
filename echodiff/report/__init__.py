"""The report page of a command: text, tables, charts and images."""
