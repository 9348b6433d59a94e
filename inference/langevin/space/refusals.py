"""What a space refuses: models and functions that a kernel cannot be run on."""

from collections.abc import Iterable
from typing import Any

from deepgen import checks


def one_of_two(model: Any, functions: dict[str, Any]) -> None:
    """Refuse a kernel that is given both a model and functions, or neither.

    Args:
        model: a model or None.
        functions: potential_fn and perhaps score_fn, by name; None where not given.

    Raises:
        ValueError: naming what came.
    """
    given = [name for name, function in functions.items() if function is not None]
    if (model is None) == (not given):
        raise checks.problem(
            "model",
            got="neither a model nor " + " nor ".join(functions)
            if model is None
            else f"a model and {', '.join(given)}",
            expected=f"either a model or {' / '.join(functions)}",
            fix="Pass the model alone, or model=None and the function.",
        )


def init_params(params: Any) -> None:
    """Refuse to run a function without a start.

    Args:
        params: what the user gave, or None.

    Raises:
        ValueError: None.
    """
    if params is None:
        raise checks.problem(
            "init_params",
            got="None with potential_fn",
            expected="the values to start from",
            fix="Pass init_params (Pyro: initial_params), with an axis of chains in front where there are several.",
        )


def real_latents(sites: Iterable[tuple[str, bool]]) -> None:
    """Refuse a model without latents, or with discrete ones, for a kernel that follows gradients in real space.

    Args:
        sites: (name, whether it is discrete) of each latent.

    Raises:
        ValueError: naming the first discrete site.
    """
    sites = list(sites)
    if not sites:
        raise checks.problem(
            "model", got="no latent sites", expected="at least one", fix="There is nothing to draw: all is observed."
        )
    for name, is_discrete in sites:
        if is_discrete:
            raise checks.problem(
                f"site {name!r}",
                got="a discrete latent for a kernel on real numbers",
                expected="continuous latents",
                fix="Sum it out in the model, or draw it with GibbsWithGradients or DiscreteLangevin.",
            )


def discrete_latents(sites: Iterable[tuple[str, bool, int]]) -> int:
    """Refuse a model whose latents are not all bits, or all one-hot rows of one length.

    Args:
        sites: (name, whether it is discrete, 1 for bits, k for one-hot rows of k, 0 for anything else) of each latent.

    Returns:
        1, or k.

    Raises:
        ValueError: naming the first site that does not fit.
    """
    sites = list(sites)
    if not sites:
        raise checks.problem(
            "model", got="no latent sites", expected="at least one", fix="There is nothing to draw: all is observed."
        )
    for name, is_discrete, size in sites:
        if not is_discrete:
            raise checks.problem(
                f"site {name!r}",
                got="a continuous latent for a kernel on discrete states",
                expected="Bernoulli or one-hot latents",
                fix="Take a kernel for real numbers, such as MALA, or condition on the continuous latents.",
            )
        if size == 0:
            raise checks.problem(
                f"site {name!r}",
                got="a discrete law whose values are neither bits nor one-hot rows",
                expected="Bernoulli, or Multinomial with total_count=1 (in Pyro OneHotCategorical as well)",
                fix="Write a categorical site as Multinomial with total_count=1 and index by the product with the row.",
            )
        if size != sites[0][2]:
            raise checks.problem(
                f"site {name!r}",
                got=f"{_kind(size)} beside {_kind(sites[0][2])}",
                expected="latents of one kind",
                fix="Alternate two kernels, each on the model conditioned on the other's sites.",
            )
    return sites[0][2]


def no_subsample(names: list[str]) -> None:
    """Refuse a model with mini-batches for a kernel that needs the full density.

    Args:
        names: of the plates that draw one.

    Raises:
        ValueError: there is one.
    """
    if names:
        raise checks.problem(
            f"plate {names[0]!r}",
            got="a subsample_size below the plate's size",
            expected="all data, for this kernel needs the full density",
            fix="Leave subsample_size out, or take SGLD or PSGLD.",
        )


def found_start(found: int, wanted: int) -> None:
    """Refuse to go on where no valid start was found.

    Args:
        found: the number of valid starts.
        wanted: how many are needed.

    Raises:
        ValueError: too few.
    """
    if found < wanted:
        raise checks.problem(
            "model",
            got=f"{found} starts with a finite energy and gradient, of {wanted} needed",
            expected="a model with a density at the starts of init_strategy",
            fix="Look for NaN in data or parameters, or give initial values.",
        )


def one_length(shapes: list[tuple[int, ...]]) -> int:
    """Refuse one-hot rows of several lengths.

    Args:
        shapes: of the arrays of a state.

    Returns:
        The length of their last axis.

    Raises:
        ValueError: not all of one length, or a scalar.
    """
    lengths = {shape[-1:] for shape in shapes}
    if len(lengths) != 1 or () in lengths:
        raise checks.problem(
            "init_params",
            got=f"arrays of shapes {shapes} with one_hot=True",
            expected="one-hot rows of one length along the last axis of each",
            fix="Give all variables the same number of categories, or leave one_hot out for bits.",
        )
    return lengths.pop()[0]


def _kind(size: int) -> str:
    return "bits" if size == 1 else f"one-hot rows of {size}"
