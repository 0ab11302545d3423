"""Measure and print: `python tests/benchmarks/run.py [accuracy report step …]`.

Each `bench_<name>.py` beside this file has `measure()`, which yields rows (what, figure), or a
`main()` that prints its own. Without names all are run. `step:lenet,resnet20` and the same of
`memory` choose among the nets; what else may stand there is said in that file. A figure is worth
what the load beside it is: on a busy machine, run it again.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    asked = [name.partition(":") for name in names or known]
    unknown = [name for name, _, _ in asked if name not in known]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}: {', '.join(known)}", file=sys.stderr)
        return 2
    for name, _, words in asked:
        module = import_module(f"bench_{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}")
        if not hasattr(module, "measure"):
            module.main()
            continue
        for what, figure in module.measure(*(words.split(",") if words else ())):
            print(f"  {what:<50} {figure:<52} {load()}", flush=True)
    return 0


def load() -> str:
    """How busy the machine is: processes that want to run, over a minute."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "parity")]
    raise SystemExit(main(sys.argv[1:]))
