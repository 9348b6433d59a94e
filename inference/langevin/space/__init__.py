"""Where a kernel's chains live: the unconstrained or discrete latents of a model, or the arguments of a function."""
