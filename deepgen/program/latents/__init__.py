"""The latents of a row as one vector without constraints, for what moves along gradients."""
