"""Training methods of the GAN baselines."""
