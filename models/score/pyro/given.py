"""A conditional score model whose context is known, in Pyro."""

from typing import Any

import torch


class Given:
    """A conditional score model given the context of its rows.

    Args:
        program: the score model.
        context: (n, context_dim); any number of rows is taken to repeat these n.
    """

    def __init__(self, program: Any, context: torch.Tensor):
        self.program, self.context = program, context

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the context."""
        return self.program.model(x, self._rows(size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def estimate(self, x: Any, num_probes: int) -> torch.Tensor:
        """As the program's, given the context."""
        return self.program.distribution(self._rows(len(x))).estimate(x, num_probes)

    def complete(self, x: Any, observed: Any, *, method: str, num_steps: int | None = None) -> torch.Tensor:
        """As the program's, given the context."""
        law = self.program.distribution(self._rows(len(x)))
        return law.complete(x, observed, method=method, num_steps=num_steps)

    @property
    def judge(self) -> str:
        """As the program's."""
        return self.program.judge

    def log_density(self, x: Any) -> torch.Tensor:
        """As the program's, given the context."""
        return self.program.distribution(self._rows(len(x))).log_density(x)

    def _rows(self, rows: int) -> torch.Tensor:
        return self.context.tile((-(-rows // len(self.context)), 1))[:rows]
