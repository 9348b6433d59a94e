"""What the tests of evaluation share: a z-score, and a normal with holes whose conditional law is known."""

import numpy as np

from deepgen import evaluation as ev
from deepgen.data import hide, mcar

BOUND = 4.5


def z_score(sample, expected):
    sample = np.asarray(sample, dtype=float)
    return abs(sample.mean() - expected) / (sample.std(ddof=1) / np.sqrt(len(sample)))


class NormalWithHoles:
    """Rows of a correlated normal, half of their cells hidden, with exact draws of these."""

    mean = np.array([1.0, -2.0, 0.5, 3.0])
    factor = np.array([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [-0.5, 0.5, 0.7, 0], [0.3, 0.9, 0.1, 0.4]])

    def __init__(self, n=1500, draws=99, rate=0.5):
        rng = np.random.default_rng(7)
        self.covariance = self.factor @ self.factor.T
        self.x = self.mean + rng.standard_normal((n, 4)) @ self.factor.T
        self.observed = mcar(self.x, rate, seed=3)
        self.holes = hide(self.x, self.observed)
        self.law = ev.Gaussian(self.mean, self.covariance, (), True)
        self.draws = self.law.sample(self.holes, draws, seed=5)

    def posterior(self, spread=1.0, **attrs):
        centre = self.draws.mean(0)
        draws = np.where(self.observed, self.x, centre + spread * (self.draws - centre))
        return ev.posterior_of(draws.reshape(3, -1, *self.x.shape), self.observed, attrs=attrs)
