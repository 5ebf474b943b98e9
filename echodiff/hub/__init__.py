"""Push weights and generated sets to a model hub, and fetch them: `echodiff push`, `echodiff pull`."""
