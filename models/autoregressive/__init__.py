"""Autoregressive models: the chain rule with a network for the conditionals (Germain et al. 2015)."""
