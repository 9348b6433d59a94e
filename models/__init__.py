"""The eight families of deep generative model, one room each."""

if __name__ != "deepgen.models":
    raise ImportError(
        f"this package is deepgen.models, but it was imported as {__name__!r}: import deepgen.models instead"
    )
