"""By what density draws down a ladder of noise are corrected, and what law they then have."""

from typing import Any

ACCEPTED = 0.574
"""The acceptance probability at which MALA mixes best (Roberts & Rosenthal 1998)."""
LAWS = {
    "energy": "asymptotically exact",
    "probability flow": "asymptotically exact",
    "probability flow by probes": "approximate",
}
"""What may judge, and the law of the draws then: an estimated density has another law than the flow."""


def said(judge: str) -> dict[str, Any]:
    """Attributes of corrected draws.

    Args:
        judge: one of ``LAWS``.

    Returns:
        ``judge`` and ``law``.

    >>> said("energy")
    {'judge': 'energy', 'law': 'asymptotically exact'}
    """
    return {"judge": judge, "law": LAWS[judge]}
