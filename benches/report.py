#!/usr/bin/env python3
"""List every row of benches/results that has a goal, the unmet ones first.

    benches/report.py          the table; rows without a goal are counted
    benches/report.py --all    those too
"""

import json
import pathlib
import sys

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def number(value):
    return "" if value is None else f"{value:.4g}"


def line(result, row):
    interval = f"{number(row['lower'])} .. {number(row['upper'])}" if row["lower"] is not None else ""
    met = {True: "yes", False: "NO", None: ""}[row["met"]]
    goal = row["goal"] or ""
    return [met, result["bench"], row["metric"], f"{number(row['value'])} {row['unit']}".strip(), interval, goal, result["date"][:10]]


def main():
    every = "--all" in sys.argv[1:]
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    rows = [(result, row) for result in results for row in result["rows"]]
    shown = [pair for pair in rows if every or pair[1]["goal"] is not None]
    # Unmet, met, without a goal; within each as the results have them.
    shown.sort(key=lambda pair: {False: 0, True: 1, None: 2}[pair[1]["met"]])
    table = [["met", "bench", "metric", "value", "95 % interval", "goal", "measured"]] + [line(*pair) for pair in shown]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
    unmet = sum(row["met"] is False for _, row in rows)
    goals = sum(row["goal"] is not None for _, row in rows)
    print(f"\n{unmet} of {goals} goals unmet; {len(rows) - goals} rows without a goal")


if __name__ == "__main__":
    main()
