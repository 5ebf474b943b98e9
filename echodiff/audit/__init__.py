"""What a training leaks of its frames: copies, membership, the set as a whole; the verdict."""
