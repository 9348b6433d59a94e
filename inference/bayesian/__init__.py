"""Networks whose weights are latent variables."""
