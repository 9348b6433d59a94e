"""Run the speed benchmarks: ``python -m benchmarks.speed [NAME ...]``, one process each."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks.speed.timing import Row, table

NAMES = (
    "startup",
    "training",
    "convolution",
    "imputation",
    "likelihood",
    "sampling",
    "flows",
    "langevin",
    "contrastive",
)
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all, and print one table; the rows are kept in ``results/``."""
    if len(names) == 2 and names[0] == "--one":
        print(json.dumps([row._asdict() for row in import_module(f"benchmarks.speed.{names[1]}").measure()]))
        return 0
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"unknown benchmarks {unknown}; expected some of {list(NAMES)}", file=sys.stderr)
        return 2
    rows = []
    for name in names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        call = [sys.executable, "-m", "benchmarks.speed", "--one", name]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
        rows += [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}\n")
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    (RESULTS / f"{stamp}.json").write_text(json.dumps([row._asdict() for row in rows], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
