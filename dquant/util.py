"""Small leaves that several rooms need."""

import random
import time


def now_ns() -> int:
    """Return our wall clock, ns since the Unix epoch."""
    return time.time_ns()


def full_jitter(attempt: int, base_s: float, ceiling_s: float) -> float:
    """Return a delay drawn evenly from zero to the exponential bound of this attempt.

    Args:
        attempt: 0 for the first retry.
        base_s: The bound of the first retry.
        ceiling_s: What the bound never exceeds.

    """
    return random.uniform(0.0, min(ceiling_s, base_s * 2.0 ** min(attempt, 32)))
