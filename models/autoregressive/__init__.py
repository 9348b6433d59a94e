<<<<<<< HEAD
"""Autoregressive models: the chain rule with a network for the conditionals (Germain et al. 2015)."""
=======
"""Autoregressive models: each entry given those decided before it (Bengio & Bengio 2000; Germain et al. 2015)."""
>>>>>>> made
