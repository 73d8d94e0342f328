"""Chooses rows, measures them, shows and records the table. Started by bench/run."""

import argparse
import itertools
import os
import sys

import record
from measure import Bench, NotMeasured, tell
from rows import NAMES, ROWS, START, UNLEARNING
from unlearning import RunFailed


def main():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure (default: all)")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--quick", action="store_true", help="2 rounds of one inner round; not recorded")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-record", action="store_true", help="leave BENCHMARKS.md alone")
    args = parser.parse_args()
    if args.list:
        print("\n".join(NAMES))
        return
    unknown = [name for name in args.rows if name not in NAMES]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(NAMES)}")
    wanted = args.rows or NAMES
    rounds, inner = (min(args.rounds, 2), 1) if args.quick else (args.rounds, None)
    bench = Bench(
        os.environ["AMEND_BENCH_BINARY"], os.environ["AMEND_BENCH_MODELS"], rounds, inner, args.threads
    )
    works = {row.name: lambda level, row=row: bench.measure(row, level) for row in ROWS}
    for name in UNLEARNING:
        works[name] = lambda level, name=name: bench.unlearn(name, level)
    works[START] = lambda level: bench.start(5 if args.quick else 20, level)
    figures, missing = [], []
    for name, level in itertools.product(filter(wanted.__contains__, NAMES), bench.levels()):
        try:
            found, version = works[name](level)
        except (NotMeasured, RunFailed) as why:
            missing.append((f"{name} at {level}", why))
            tell(f"{name} at {level}: not measured: {why}")
            continue
        figures += found
        for figure in found:
            tell("  " + "  ".join(record.cells(figure)))
        # Row by row, so that what is there stays there when a long run is cut short.
        if not (args.quick or args.no_record):
            record.append(record.ROOT / "BENCHMARKS.md", found, version, bench.binary)
    record.show(figures)
    for name, why in missing:
        print(f"{name}: not measured: {why}")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
