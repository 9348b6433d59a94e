"""Several chains of a kernel at once, as arviz.InferenceData."""
