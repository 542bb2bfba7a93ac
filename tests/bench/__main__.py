"""`make bench`: pipe beside its peers, in one run, as a table of medians and ratios.

A row is a function in a module of `rows/`, marked with `@row`: it takes the `Bench` and gives a `Row`, that is the cases to
measure side by side and the bars that pipe's is held against. Any module there is found by itself.
"""

import argparse
import atexit
import importlib
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import rows  # noqa: E402
from bench import Bench, cleared  # noqa: E402
from measure import measure  # noqa: E402
from row import ROWS  # noqa: E402
from table import machine, print_row  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures pipe beside its peers.")
    parser.add_argument("rows", nargs="*", help="words: only rows whose name holds one of them")
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is measured [default: 7]")
    parser.add_argument("--only-pipe", action="store_true", help="leave the peers out")
    parser.add_argument("--pipe", type=Path, default=None, help="the binary [default: target/release/pipe]")
    args = parser.parse_args()
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"rows.{module.name}")
    bench = Bench(args.pipe)
    atexit.register(cleared)
    print(machine(bench), flush=True)
    missed = 0
    for name, build in ROWS.items():
        if args.rows and not any(word in name for word in args.rows):
            continue
        row = build(bench)
        cases = [case for case in row.cases if not args.only_pipe or case.name.startswith("pipe")]
        missed += print_row(name, row, measure(cases, args.rounds))
    return 0 if missed == 0 else 1


sys.exit(main())
