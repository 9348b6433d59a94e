"""Integer pixels as a mixture of discretised logistic distributions (Salimans et al. 2017, PixelCNN++)."""
