"""The table on the screen, and its rows in BENCHMARKS.md."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADING = "## Against peers"
COLUMNS = (
    "date",
    "row",
    "level",
    "figure",
    "amend",
    "peer",
    "peer's",
    "ratio or value",
    "goal",
    "met",
    "n",
    "spread",
    "commit",
    "machine, peer's version",
)


def quantity(figure, value):
    """A number as a person reads it."""
    if value is None:
        return "–"
    if figure.quantity == "resident bytes":
        return f"{value / 1e6:,.0f} MB"
    if figure.quantity.startswith("seconds"):
        return f"{1e3 * value:.1f} ms"
    if figure.quantity.startswith("share"):
        return f"{value:.3f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def compared(figure, value):
    """What is held against the goal."""
    if value is None:
        return "–"
    return quantity(figure, value) if figure.theirs is None else f"{value:.2f}"


def cells(figure):
    sign = "≥" if figure.at_least else "≤"
    goal = "–" if figure.goal is None else f"{sign} {compared(figure, figure.goal)}"
    met = {None: "–", True: "met", False: "not met"}[figure.met]
    return [
        figure.row,
        figure.level,
        figure.quantity,
        quantity(figure, figure.ours),
        figure.peer or "–",
        quantity(figure, figure.theirs),
        compared(figure, figure.value),
        goal,
        met,
        str(figure.rounds),
        f"{compared(figure, figure.low)}–{compared(figure, figure.high)}",
    ]


def show(figures):
    """Prints the table, columns aligned."""
    rows = [list(COLUMNS[1:12])] + [cells(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def append(path, figures, version, binary):
    """Appends dated rows to the table of the section of BENCHMARKS.md, both of which must be there."""
    text = Path(path).read_text()
    if HEADING not in text:
        raise SystemExit(f"{path}: there is no section {HEADING!r} to append to")
    before, section = text.split(HEADING, 1)
    section, *after = section.split("\n## ", 1)
    date, machine = datetime.date.today().isoformat(), machine_name()
    lines = section.rstrip().splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("|")), None)
    if start is None:
        raise SystemExit(f"{path}: there is no table under {HEADING!r} to append to")
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
    where = f"{machine}, PyTorch {version}" if version else machine
    build = commit(binary)
    lines[end:end] = ["| " + " | ".join([date, *cells(figure), build, where]) + " |" for figure in figures]
    section = "\n".join(lines) + "\n"
    rest = "\n## " + after[0] if after else ""
    Path(path).write_text(before + HEADING + section + rest)


def commit(binary):
    """The commit that the binary says it was built from, with a + where the sources differ from it."""
    said = subprocess.run([str(binary), "--version"], capture_output=True, text=True).stdout
    name = said.strip().rpartition("(")[2].rstrip(")")
    sources = ["crates/*/src/*", "Cargo.toml", "Cargo.lock"]
    same = subprocess.run(["git", "diff", "--quiet", name, "--", *sources], cwd=ROOT, capture_output=True)
    return name[:9] + ("" if same.returncode == 0 else "+")


def machine_name():
    """The processor's own name and how many of its threads there are."""
    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    except OSError:
        pass
    return f"{len(os.sched_getaffinity(0))}-core {name}"
