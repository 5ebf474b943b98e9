"""Find an image inside another by registration and grain: copies, changed or not."""
