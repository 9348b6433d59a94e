"""Ways of fitting and of conditioning, one room each."""

if __name__ != "deepgen.inference":
    raise ImportError(
        f"this package is deepgen.inference, but it was imported as {__name__!r}: import deepgen.inference instead"
    )
