"""Data missing not at random in NumPyro: the mechanisms, and the program that has one."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.module import eqx_module
from numpyro.primitives import Messenger

from deepgen import checks
from deepgen.handlers.sites.numpyro import CompletedEntries, ObservedEntries, independent, interior
from deepgen.inference.svi.numpyro import ELBO
from deepgen.models.mnar import mechanism as mechanisms
from deepgen.nn import equinox as nn
from deepgen.program import HasObjective, LikelihoodKind, files
from deepgen.program import numpyro as programs


class SelfMasking(eqx.Module):
    r"""Each entry's own value decides whether it is observed, with one slope for each.

    .. math:: \mathrm{logit}\, p(s_j = 1 \mid x_j) = a_j x_j + b_j

    Args:
        event_shape: the shape of one datum.
        hides: ``"high"`` values (all a_j < 0) or ``"low"`` ones (all a_j > 0), where that is known; None to learn it.

    Raises:
        ValueError: another ``hides``.
    """

    raw_slope: jax.Array
    bias: jax.Array
    hides: str | None = eqx.field(static=True)

    def __init__(self, event_shape: tuple[int, ...], hides: str | None = None):
        checks.one_of("hides", hides, mechanisms.HIDES)
        self.hides = hides
        self.raw_slope = self.bias = jnp.zeros(checks.event_shape(event_shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of complete rows (..., *event_shape)."""
        return mechanisms.self_masking(x, self.raw_slope, self.bias, self.hides)

    def spec(self) -> dict[str, Any]:
        """The mechanism's name and arguments."""
        return {"network": "SelfMasking", "event_shape": list(self.bias.shape), "hides": self.hides}


class LinearMasking(eqx.Module):
    r"""All entries of the row together decide whether one is observed.

    .. math:: \mathrm{logit}\, p(s_j = 1 \mid x) = w_j^\top x + b_j

    Args:
        event_shape: the shape of one datum.
    """

    weight: jax.Array
    bias: jax.Array

    def __init__(self, event_shape: tuple[int, ...]):
        self.bias = jnp.zeros(checks.event_shape(event_shape))
        self.weight = jnp.zeros((self.bias.size, self.bias.size))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of complete rows (..., *event_shape)."""
        return mechanisms.linear_masking(x, self.weight, self.bias)

    def spec(self) -> dict[str, Any]:
        """The mechanism's name and arguments."""
        return {"network": "LinearMasking", "event_shape": list(self.bias.shape)}


MECHANISMS: dict[str, type] = {"SelfMasking": SelfMasking, "LinearMasking": LinearMasking}


class MNAR(eqx.Module):
    r"""A program, and the law of which entries of its data are observed: data missing not at random.

    .. math:: z \sim p(z), \quad x \sim p(x \mid z), \quad
        s_j \sim \mathrm{Bernoulli}(\mathrm{logits} = \mathrm{mechanism}(x)_j), \quad s_j = 1\ \text{if observed}

    Given data with holes the missing entries are the latent site ``"x_missing"`` (of the shape of x: the completed
    row), which the guide draws as :math:`z_k \sim q(z \mid x_\mathrm{observed})`,
    :math:`x_{\mathrm{missing}, k} \sim p(x_\mathrm{missing} \mid z_k)`. So the ordinary `IWAE` of this model and guide
    is the not-MIWAE bound of each row,

    .. math:: \log \frac1K \sum_k \frac{p(s \mid x_\mathrm{observed}, x_{\mathrm{missing}, k})\,
        p(x_\mathrm{observed} \mid z_k)\, p(z_k)}{q(z_k \mid x_\mathrm{observed})} \le \log p(x_\mathrm{observed}, s)

    and so are `ELBO` and the engine's own objectives for K = 1; `log_prob` gives it too, which is not log p(x_observed)
    but less. A row of which nothing is observed counts too. Whether
    the values decide what is missing cannot be read off the observed ones alone: what is learnt rests on the program
    and the mechanism being of the right kind, the more so the less the mechanism is told.

    Without data the model draws whole rows x, and s. Conditioned on s and under `missing` it is the target of NUTS.

    Args:
        program: whose law of x is continuous, its elements independent given the latents.
        mechanism: from complete rows (..., *event_shape) to the logit of each entry's being observed, in that shape:
            `SelfMasking`, `LinearMasking`, or a network of one's own.

    References:
        Ipsen, Mattei and Frellsen 2021, "not-MIWAE: deep generative modelling with missing not at random data".
    """

    family: ClassVar[str] = "mnar"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("sir",)

    program: Any
    mechanism: Any

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.program.event_shape

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(z, x, s), or given data with holes p(z, x_observed, x_missing, s), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), NaN where missing, or None to draw.
            size: the number of rows where x is None.

        Returns:
            What the program's model returns.

        Raises:
            ValueError: a law of x that is joint or discrete, or logits of another shape than the data's.
        """
        mechanism = eqx_module("mechanism", self.mechanism)
        if x is None:
            with _Masking(mechanism):
                return self.program.model(size=size)
        observed = _present(x)
        with _Masking(mechanism, observed):
            return self.program.model(jnp.where(observed, x, jnp.zeros_like(x)))

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(z | x_observed) p(x_missing | z), in the plate ``"data"``; without x, that of the program.

        Args:
            x: (n, *event_shape), NaN where missing.
            size: the number of rows where x is None.

        Returns:
            What the program's guide returns.

        Raises:
            ValueError: as `model`.
        """
        if x is None:
            return self.program.guide(size=size)
        with handlers.trace() as latents:
            result = self.program.guide(x)
        observed = _present(x)
        with handlers.block(hide_fn=_not_proposed), _Masking(None, observed), handlers.replay(trace=latents):
            self.program.model(jnp.where(observed, x, jnp.zeros_like(x)))
        return result

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as the program takes it; a row of which nothing is observed is taken too.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN says what is missing.

        Returns:
            x as a NumPy array.

        Raises:
            ValueError: what the program does not take.
        """
        return mechanisms.check_rows(self.program, x, missing=missing, observed=observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """What the program has to say of the rows of ``x`` of which something is observed."""
        array = self.check_data(x, missing=True)
        return self.program.diagnose(array[~np.isnan(array).reshape(len(array), -1).all(1)])

    def objective(self) -> Any:
        """What `fit` minimises by default: what the program says, or the `ELBO`."""
        return self.program.objective() if isinstance(self.program, HasObjective) else ELBO()

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": {"family": self.program.family, "config": self.program.spec()},
            "mechanism": files.describe(self.mechanism, {**nn.NETWORKS, **MECHANISMS}),
        }


def build(config: Mapping[str, Any], *, key: jax.Array) -> MNAR:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `MNAR.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    key_program, key_mechanism = jax.random.split(key)
    inner, spec = config["program"], dict(config["mechanism"])
    if own := MECHANISMS.get(spec["network"]):
        del spec["network"]
        mechanism = own(**{**spec, "event_shape": tuple(spec["event_shape"])})
    else:
        mechanism = nn.build(spec, key=key_mechanism)
    return MNAR(programs.build(inner["family"], inner["config"], key=key_program), mechanism)


class _Masking(Messenger):
    """Adds to the site "x" the site of its missing entries, where there is data, and the site "s"."""

    def __init__(self, mechanism: Any, observed: jax.Array | None = None) -> None:
        self.mechanism, self.observed = mechanism, observed
        super().__init__()

    def process_message(self, msg: Any) -> None:
        if msg["type"] != "sample" or msg["name"] != "x":
            return
        self._law = law = msg["fn"]
        mechanisms.check_law(independent(law), law.support.is_discrete, law)
        if self.observed is not None:
            msg["fn"] = ObservedEntries(law, self.observed, interior(law, msg["value"]))

    def postprocess_message(self, msg: Any) -> None:
        if msg["type"] != "sample" or msg["name"] != "x":
            return
        x, seen = msg["value"], None
        if self.observed is not None:
            x = numpyro.sample("x_missing", CompletedEntries(self._law, self.observed, x))
            seen = self.observed.astype(x.dtype)
        if self.mechanism is None:
            return
        logits = self.mechanism(x)
        mechanisms.check_logits(logits.shape, x.shape)
        numpyro.sample("s", dist.Bernoulli(logits=logits).to_event(self._law.event_dim), obs=seen)


def _present(x: jax.Array) -> jax.Array:
    return ~jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else x >= 0


def _not_proposed(site: Any) -> bool:
    return site["type"] in ("sample", "plate", "deterministic") and site["name"] != "x_missing"
