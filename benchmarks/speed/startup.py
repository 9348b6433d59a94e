"""How long a user waits: imports, and the first step of a fit, each in a fresh process."""

import subprocess
import sys

from benchmarks.speed.timing import Row, median

REPEATS = 5

IMPORTS = {
    "import numpyro": "import numpyro",
    "import deepgen.numpyro": "import deepgen.numpyro",
    "import pyro": "import pyro",
    "import deepgen.pyro": "import deepgen.pyro",
}

FIRST_STEP = {
    "numpyro": """
import jax, numpy as np, deepgen.numpyro as dg
x = (np.random.default_rng(0).random((1000, 784)) < 0.1).astype(np.float32)
vae = dg.VAE.mlp((784,), 20, hidden=(400,), key=jax.random.key(0))
dg.fit(jax.random.key(1), vae, x, steps=1, progress=False)
""",
    "pyro": """
import numpy as np, deepgen.pyro as dg
x = (np.random.default_rng(0).random((1000, 784)) < 0.1).astype(np.float32)
vae = dg.VAE.mlp((784,), 20, hidden=(400,))
dg.fit(vae, x, steps=1, progress=False)
""",
}


def measure() -> list[Row]:
    """Seconds of each import and of import, compilation and one step of a VAE 784-400-20."""
    taken: dict[str, list[float]] = {name: [] for name in (*IMPORTS, *FIRST_STEP)}
    for repeat in range(REPEATS + 1):
        for name, code in {**IMPORTS, **FIRST_STEP}.items():
            timed = f"import time\n_start = time.perf_counter()\n{code}\nprint(time.perf_counter() - _start)"
            out = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout
            if repeat:
                taken[name].append(float(out.splitlines()[-1]))
    rows = []
    for name, values in taken.items():
        label = name if name in IMPORTS else f"import, compile and first step of a VAE, {name}"
        rows.append(Row(label, *median(values), "s"))
    more = median([a - b for a, b in zip(taken["import deepgen.numpyro"], taken["import numpyro"], strict=True)])
    rows.append(Row("import deepgen.numpyro over import numpyro (goal: at most 0.3 s)", *more, "s"))
    return rows
