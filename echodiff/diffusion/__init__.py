"""Stable Diffusion and its adapters: load, fine-tune, sample."""
