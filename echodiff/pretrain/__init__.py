"""Train the networks that ship with echodiff: base model, feature network, text finder."""
