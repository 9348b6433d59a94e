"""A fit whose posterior collapsed says so, and one whose posterior is in use says nothing."""

import warnings

import numpy as np
import pytest
from fitting import FITTINGS

from deepgen.models.vae.activity import PosteriorCollapseWarning

ROWS = np.random.default_rng(0).normal(size=(256, 1)).astype(np.float32) * np.ones((1, 6), np.float32)


@pytest.mark.parametrize("fitting", FITTINGS, ids=str)
def test_a_collapsed_posterior_is_told(fitting):
    with pytest.warns(PosteriorCollapseWarning, match="none of the .* latents is active.*warm beta up"):
        fitting.fit(fitting.vae(), ROWS, steps=300, learning_rate=1e-2, objective=fitting.room.ELBO(beta=1e3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitting.fit(fitting.vae(), ROWS, steps=300, learning_rate=1e-2)
