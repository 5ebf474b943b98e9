"""Try to tell the source of an image from all that is not its content."""
