"""Sites whose law has a score and no value: what unadjusted kernels take for their density, and others refuse."""
