"""Networks: `equinox` and `torch`, the same names with the same parameter paths and shapes."""
