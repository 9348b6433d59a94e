"""Training by contrast: of data with the ends of chains (contrastive divergence), or with noise."""
