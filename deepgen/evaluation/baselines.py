"""What every imputation is measured against: mean, nearest neighbours, iterative regression, a multivariate normal."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepgen.checks import one_of, positive, problem
from deepgen.evaluation.files import posterior_of
from deepgen.math.gaussian import fit_gaussian

if TYPE_CHECKING:
    import arviz

BASELINES = ("mean", "knn", "iterative", "iterative draws", "forest", "gaussian")
FOREST_ROUNDS = 5


def baselines(
    train: np.ndarray,
    x: np.ndarray,
    *,
    seed: int,
    num_draws: int = 100,
    methods: Sequence[str] = ("mean", "knn", "iterative", "gaussian"),
    neighbors: int = 5,
    rounds: int = 10,
    trees: int = 50,
    pseudo_rows: float = 1.0,
) -> "dict[str, arviz.InferenceData]":
    """Complete ``x`` by simple methods fitted on ``train``.

    - "mean": the column's mean.
    - "knn": the mean of the nearest neighbours in the cells that both rows have (scikit-learn's ``KNNImputer``).
    - "iterative": rounds of Bayesian ridge regressions of each column on the others (``IterativeImputer``), a point.
    - "iterative draws": the same with each regression's prediction drawn; one draw is one run of the rounds.
    - "forest": rounds of random forests in their place, a point (the scheme of missForest, Stekhoven & Bühlmann 2012).
    - "gaussian": a multivariate normal fitted by EM, exact draws given the observed cells.

    "mean", "knn", "iterative" and "forest" give one value a cell and no uncertainty. All hold their fitted parameters
    fixed, so the draws leave out the uncertainty of the fit. Costs: "iterative" grows with the cube of the number of
    columns (64 columns take seconds, 784 hours); "iterative draws", not among the defaults, runs the rounds once more
    for each draw (100 draws of 359 rows of 64 columns: minutes); "forest", not among them either, fits a forest for
    each column and round.

    Args:
        train: (m, *event_shape), NaN where missing.
        x: (n, *event_shape), NaN where missing.
        seed: of all draws.
        num_draws: draws of "iterative draws" and "gaussian".
        methods: which ones.
        neighbors: of "knn".
        rounds: of the iterative ones; "forest" takes at most five.
        trees: of each forest.
        pseudo_rows: of "gaussian", see ``fit_gaussian``.

    Returns:
        For each method an ``InferenceData`` as ``impute`` gives it: ``posterior["x"]`` (chain, draw, row, …),
        ``constant_data["observed"]``, ``attrs["law"]`` "point" or "approximate".

    Raises:
        ValueError: an unknown method, shapes that do not fit, a column of ``train`` without observed cells, nothing
            missing in ``x``, infinite values, or settings that are not positive.
    """
    for method in methods:
        one_of("methods", method, BASELINES)
    for what, number in (("num_draws", num_draws), ("neighbors", neighbors), ("rounds", rounds), ("trees", trees)):
        positive(what, float(number))
    train, x = np.asarray(train), np.asarray(x)
    if train.ndim < 2 or train.shape[1:] != x.shape[1:] or not len(train) or not len(x):
        raise problem(
            "x",
            got=f"shape {x.shape} for training rows of shape {train.shape}",
            expected="the same event shape, batch first",
            fix="Reshape one of them.",
        )
    known, holes = (a.reshape(len(a), -1).astype(np.float64) for a in (train, x))
    empty = np.flatnonzero(np.isnan(known).all(0))
    infinite = np.isinf(known).any() or np.isinf(holes).any()
    if empty.size or infinite or not np.isnan(holes).any():
        got = (
            "infinite values"
            if infinite
            else f"columns {empty.tolist()} all missing in train"
            if empty.size
            else "no NaN in x"
        )
        raise problem(
            "train and x",
            got=got,
            expected="finite values or NaN, each column observed somewhere in train, something missing in x",
            fix="Leave such columns out, and hide some cells, e.g. with deepgen.data.mcar and hide.",
        )
    done: "dict[str, arviz.InferenceData]" = {}
    for method in methods:
        draws = _complete(method, known, holes, seed, num_draws, neighbors, rounds, trees, pseudo_rows)
        law = "approximate" if method in ("iterative draws", "gaussian") else "point"
        completed = np.where(np.isnan(holes), draws, holes).reshape(1, -1, *x.shape)
        completed = completed.astype(np.result_type(x.dtype, np.float32))
        done[method] = posterior_of(completed, ~np.isnan(x), attrs={"method": method, "law": law})
    return done


def _complete(
    method: str,
    train: np.ndarray,
    x: np.ndarray,
    seed: int,
    num_draws: int,
    neighbors: int,
    rounds: int,
    trees: int,
    pseudo_rows: float,
) -> np.ndarray:
    """(S, n, d) completed rows."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    if method == "gaussian":
        return fit_gaussian(train, pseudo_rows=pseudo_rows).sample(x, num_draws, seed=seed)
    if method == "mean":
        return SimpleImputer().fit(train).transform(x)[None]
    if method == "knn":
        return KNNImputer(n_neighbors=min(neighbors, len(train))).fit(train).transform(x)[None]
    posterior = method == "iterative draws"
    imputer = IterativeImputer(max_iter=rounds, sample_posterior=posterior, random_state=seed)
    if method == "forest":
        forest = RandomForestRegressor(trees, max_features=1 / 3, random_state=seed)
        imputer = IterativeImputer(forest, max_iter=min(rounds, FOREST_ROUNDS), random_state=seed)
    with warnings.catch_warnings():
        # The rounds are a setting here: running them all is no failure.
        warnings.filterwarnings("ignore", message=".*Early stopping criterion not reached")
        imputer.fit(train)
    if not posterior:
        return imputer.transform(x)[None]
    # The regressions are fitted once; each copy of a row runs through the rounds with noise of its own.
    return imputer.transform(np.tile(x, (num_draws, 1))).reshape(num_draws, *x.shape)
