"""`python -m benchmarks [module …]`: print every table, or those named; `kodak_priors`, `clip_priors` with options."""

from __future__ import annotations

import argparse
import importlib
import platform
import subprocess
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
    names = arguments.modules or MODULES
    if len(names) == 1:
        print_table(names[0], arguments.one_thread)
        return
    # Each in a process of its own: what large models leave of memory would slow small work down.
    more = ["--one-thread"] if arguments.one_thread else []
    ends = [subprocess.run([sys.executable, "-m", "benchmarks", name, *more]).returncode for name in names]
    sys.exit(max(map(abs, ends)))


def print_table(name: str, one_thread: bool) -> None:
    if one_thread:
        Clock.of_one_thread()
    threads = f"{torch.get_num_threads()} threads, {'processor seconds' if one_thread else 'seconds'}"
    print(f"\n{name} (torch {torch.__version__}, {threads}, {platform.machine()})\n")
    print("| what | measured | target | |\n|---|---|---|---|", flush=True)
    for row in importlib.import_module(f"benchmarks.{name}").rows():
        print(show(row), flush=True)


if __name__ == "__main__":
    main()
