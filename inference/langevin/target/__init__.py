"""What Langevin dynamics follow: bare functions of arrays, or a model over its unconstrained latents."""
