"""Networks of the GAN baselines."""
