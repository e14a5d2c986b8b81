"""`leakbench list`, `leakbench doctor` and `leakbench --version`."""

import argparse

from rich.console import Console

from leakbench.commands.common import Verbs, add_data_root


def add(verbs: Verbs) -> None:
    """The verbs and their options."""
    verbs.add_parser("list", help="every defense, dataset, model and attack, with settings").set_defaults(
        command=show_list
    )
    doctor = verbs.add_parser("doctor", help="versions, devices, data found, and what is missing")
    add_data_root(doctor)
    doctor.set_defaults(command=show_doctor)


def show_version(_options: argparse.Namespace, console: Console) -> int:
    """`leakbench --version`."""
    from importlib.metadata import version

    from leakbench.core.version import own_version

    console.print(f"leakbench {own_version()} (torch {version('torch')})")
    return 0


def show_list(_options: argparse.Namespace, console: Console) -> int:
    """`leakbench list`."""
    from leakbench.reports.listing import listing

    for line in listing():
        console.print(line)
    return 0


def show_doctor(options: argparse.Namespace, console: Console) -> int:
    """`leakbench doctor`."""
    from leakbench.reports.doctor import diagnosis

    for line in diagnosis(options.data_root):
        console.print(line)
    return 0
