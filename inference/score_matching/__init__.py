"""Score matching: a density fitted by its log-gradient (Hyvärinen 2005; Vincent 2011; Song et al. 2019)."""
