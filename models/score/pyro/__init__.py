"""Score models in Pyro: the program, its law, its networks and the samplers that follow them."""

from deepgen.models.score.pyro.distribution import ScoreBased
from deepgen.models.score.pyro.networks import GaussianScore, ScoreMLP, ScoreUNet
from deepgen.models.score.pyro.program import ScoreModel, build

__all__ = ["GaussianScore", "ScoreBased", "ScoreMLP", "ScoreModel", "ScoreUNet", "build"]
