"""Run-time shape and type checks for the whole package, before anything of it is imported."""

import jaxtyping

jaxtyping.install_import_hook("deepgen", "beartype.beartype")
