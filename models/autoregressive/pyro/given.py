"""An autoregressive program given the context of its rows, in Pyro."""

from typing import Any

import torch

from deepgen.program.context import repeated


class Given:
    """A conditional program given the context of its rows.

    Args:
        program: the program.
        context: (n, context_dim, ...); any number of rows is taken to repeat these n.
    """

    def __init__(self, program: Any, context: torch.Tensor):
        self.program, self.context = program, context

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the context."""
        return self.program.model(x, repeated(self.context, size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def sequential(self) -> Any:
        """The factors of p(x | context)."""
        return self.program.sequential(self.context)

    def sample_given(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        """Draws whose known entries are clamped, see `Autoregressive.sample_given`."""
        return self.program.distribution(repeated(self.context, len(x))).sample_given(x, observed)
