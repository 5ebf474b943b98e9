"""Share weights and generated sets on a model hub: `echodiff push`, `echodiff pull`."""
