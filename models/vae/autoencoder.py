"""Programs that encode data and decode latents: what reconstructions, paths and active units are asked of."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from deepgen import checks
from deepgen.program import ModelsMissingness


@runtime_checkable
class Autoencoder(Protocol):
    """A program of one level of latents or more, each with a posterior that an encoder gives."""

    sites: ClassVar[tuple[str, ...]]
    """The latents' sites, the one that x depends on first."""

    def levels(self, *args: Any, **kwargs: Any) -> Any:
        """The posterior of each level given x."""

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """E[x | z]."""


def within(program: Any) -> Any:
    """The autoencoder itself, or the one that a law of which entries are observed is wrapped around.

    Args:
        program: any program.

    Returns:
        What encodes and decodes.

    Raises:
        ValueError: it does not.
    """
    inner = program.program if isinstance(program, ModelsMissingness) else program
    if not isinstance(inner, Autoencoder):
        raise checks.problem(
            "program",
            got=f"a {type(inner).__name__}, which has no encoder and decoder",
            expected="a program that encodes its data, such as VAE, HierarchicalVAE or ClassVAE",
            fix="Pass one; sample, log_prob and impute are there for every program.",
        )
    return inner
