"""Score models in NumPyro: the program, its law, its networks and the samplers that follow them."""

from deepgen.models.score.numpyro.distribution import ScoreBased
from deepgen.models.score.numpyro.networks import GaussianScore, ScoreMLP, ScoreUNet
from deepgen.models.score.numpyro.program import ScoreModel, build

__all__ = ["GaussianScore", "ScoreBased", "ScoreMLP", "ScoreModel", "ScoreUNet", "build"]
