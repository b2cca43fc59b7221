"""Which core a process stays on."""

import os


def pin(core: int) -> None:
    """Stay on one core where the machine has two or more, so that client and server share none."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
