"""What each family can do in each engine, declared once for the tests, ``deepgen list`` and the README."""

from dataclasses import dataclass

from deepgen import checks

ENGINES = ("numpyro", "pyro")
VERBS = ("fit", "sample", "log_prob", "impute", "reconstruct", "interpolate", "active_units", "save", "load")
ROOMS = ("autoregressive", "vae", "flow", "gan", "ebm", "score", "diffusion", "discrete_diffusion")
WRAPPERS = ("mnar", "dequantized")
"""Rooms of programs that hold a program of a family, and can do what is said there."""


@dataclass(frozen=True)
class Capability:
    """Whether a verb works, and what its result is worth.

    Attributes:
        supported: whether the family has the verb in that engine.
        detail: for ``log_prob`` its kinds (``exact``, ``estimate``, ``bound``), that of complete rows first; for
            ``impute`` the laws of its methods (``exact``, ``asymptotically exact``, ``approximate``), best first; else
            empty.
    """

    supported: bool
    detail: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (", ".join(self.detail) or "yes") if self.supported else "–"


_ABSENT = Capability(supported=False)
_PRESENT = Capability(supported=True)
_VAE = dict.fromkeys(VERBS, _PRESENT) | {
    "log_prob": Capability(supported=True, detail=("bound",)),
    "impute": Capability(supported=True, detail=("asymptotically exact", "approximate")),
}
_EXACT = dict.fromkeys(("fit", "sample", "save", "load"), _PRESENT) | {
    "log_prob": Capability(supported=True, detail=("exact",)),
}
_ENERGY = dict.fromkeys(("fit", "sample", "save", "load"), _PRESENT) | {
    "log_prob": Capability(supported=True, detail=("estimate",)),
    "impute": Capability(supported=True, detail=("asymptotically exact",)),
}
_AUTOREGRESSIVE = _EXACT | {
    "log_prob": Capability(supported=True, detail=("exact", "estimate", "bound")),
    "impute": Capability(supported=True, detail=("exact", "asymptotically exact")),
}
_FLOW = _EXACT | {
    "log_prob": Capability(supported=True, detail=("exact", "estimate")),
    "impute": Capability(supported=True, detail=("asymptotically exact",)),
}
_SCORE = dict.fromkeys(("fit", "sample", "save", "load"), _PRESENT) | {
    "log_prob": Capability(supported=True, detail=("estimate",)),
    "impute": Capability(supported=True, detail=("asymptotically exact", "approximate")),
}
_TABLE: dict[str, dict[str, dict[str, Capability]]] = {
    "autoregressive": {"numpyro": _AUTOREGRESSIVE, "pyro": _AUTOREGRESSIVE},
    "vae": {"numpyro": _VAE, "pyro": _VAE},
    "flow": {"numpyro": _FLOW, "pyro": _FLOW},
    "ebm": {"numpyro": _ENERGY, "pyro": _ENERGY},
    "score": {"numpyro": _SCORE, "pyro": _SCORE},
}


def families() -> tuple[str, ...]:
    """The families that exist in at least one engine, in the order of the house.

    Returns:
        Their names.

    >>> "vae" in families()
    True
    """
    return tuple(name for name in ROOMS if name in _TABLE)


def capability(family: str, engine: str, verb: str) -> Capability:
    """What a family can do with a verb in an engine.

    Args:
        family: one of `families`.
        engine: ``"numpyro"`` or ``"pyro"``.
        verb: one of ``VERBS``.

    Returns:
        The entry of the table; where the family lacks the verb or the engine, one that is not supported.

    Raises:
        ValueError: an unknown family, engine or verb.

    >>> capability("vae", "pyro", "log_prob").detail
    ('bound',)
    """
    checks.one_of("family", family, families())
    checks.one_of("engine", engine, ENGINES)
    checks.one_of("verb", verb, VERBS)
    return _TABLE[family].get(engine, {}).get(verb, _ABSENT)


def supporting(verb: str) -> list[tuple[str, str]]:
    """Every (family, engine) that has a verb.

    Args:
        verb: one of ``VERBS``.

    Returns:
        The pairs, in the order of the table.

    Raises:
        ValueError: an unknown verb.

    >>> supporting("reconstruct")
    [('vae', 'numpyro'), ('vae', 'pyro')]
    """
    checks.one_of("verb", verb, VERBS)
    return [
        (family, engine) for family in families() for engine in ENGINES if capability(family, engine, verb).supported
    ]


def table() -> list[list[str]]:
    """The whole table as text: a header, then a line for each family and engine.

    Returns:
        Lines of cells; a room whose family does not exist yet has one line of dashes.
    """
    lines = [["family", "engine", *VERBS]]
    for family in ROOMS:
        if family not in _TABLE:
            lines.append([family, *["–"] * (1 + len(VERBS))])
            continue
        lines += [[family, engine, *(str(capability(family, engine, verb)) for verb in VERBS)] for engine in ENGINES]
    return lines


def markdown_table() -> str:
    """The table as the README shows it.

    Returns:
        A Markdown table, without a newline at its end.
    """
    header, *lines = table()
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def text_table() -> str:
    """The table for a terminal, its columns aligned.

    Returns:
        Lines without trailing blanks, without a newline at the end.
    """
    lines = table()
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
