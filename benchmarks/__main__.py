"""`python -m benchmarks [module …]`: print every table, or those named; `kodak_priors`, `clip_priors` with options."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys

import torch

from benchmarks import Clock, show

MODULES = (
    "tokenizer",
    "gpu",
    "quantizer",
    "attention",
    "streaming",
    "pictures",
    "prior",
    "packing",
    "start",
    "loader",
    "generate",
)


WITH_OPTIONS = ("kodak_priors", "clip_priors")  # these take data and trained priors


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in WITH_OPTIONS:
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help="tables to print (default: all)")
    parser.add_argument(
        "--one-thread",
        action="store_true",
        help="on a busy machine: processor seconds of one thread, in tables whose forms run by turns",
    )
    arguments = parser.parse_args()
    if arguments.one_thread:
        Clock.of_one_thread()
    clock = "processor seconds" if arguments.one_thread else "seconds"
    for name in arguments.modules or MODULES:
        threads = f"{torch.get_num_threads()} threads, {clock}"
        print(f"\n{name} (torch {torch.__version__}, {threads}, {platform.machine()})\n")
        print("| what | measured | target | |\n|---|---|---|---|")
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            print(show(row), flush=True)


if __name__ == "__main__":
    main()
