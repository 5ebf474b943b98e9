"""How the embedded parts were made: the `tiny` base model and the `tiny-features` network."""
