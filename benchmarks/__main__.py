"""`python -m benchmarks [module …]`: print every table, or those named; `kodak_priors` with its options."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys

import torch

from benchmarks import Row

MODULES = ("quantizer", "prior", "loader", "attention", "streaming", "generate")


def show(row: Row) -> str:
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return f"| {row.name} | {row.figure} | {row.target} | {verdict} |"


def main() -> None:
    if sys.argv[1:2] == ["kodak_priors"]:  # takes pictures and trained priors, so it has options of its own
        importlib.import_module("benchmarks.kodak_priors").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help="tables to print (default: all)")
    for name in parser.parse_args().modules or MODULES:
        print(f"\n{name} (torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()})\n")
        print("| what | measured | target | |\n|---|---|---|---|")
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            print(show(row), flush=True)


if __name__ == "__main__":
    main()
