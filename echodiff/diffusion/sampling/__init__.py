"""Drawing images: settings, prompts, schedulers and the sampler."""
