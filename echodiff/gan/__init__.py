"""Image translation with generative adversarial networks: networks, training steps, loop."""
