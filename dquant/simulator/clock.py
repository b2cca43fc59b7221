"""The clock of the simulated venues: real, offset, sped up, set or stepped.

In: real time, ns, from whoever owns a clock (``server`` passes ``time.time_ns()``, tests pass numbers).
Out: virtual time, ns since the Unix epoch. Nothing here reads a clock or sleeps.

Market time (timestamps, cadences, expiries) is virtual. Connection housekeeping (30 s of silence,
requests per hour, the delay of a fault) stays on real time, or a sped-up clock would hang up on everybody.
"""


class VirtualClock:
    """Virtual time as a straight line through an anchor; speed 0 means that it moves only when told.

    Args:
        start_ns: Virtual time at ``real_ns``.
        real_ns: Real time at the start, any epoch, as long as it is the same one later.
        speed: Virtual seconds in a real second; 1 is real time, 0 is stepped.

    """

    __slots__ = ("_last_ns", "_real_ns", "_speed", "_virtual_ns")

    def __init__(self, start_ns: int, real_ns: int = 0, speed: float = 1.0) -> None:
        self._virtual_ns, self._real_ns, self._last_ns = start_ns, real_ns, start_ns
        self._speed = _checked_speed(speed)

    @property
    def speed(self) -> float:
        """Virtual seconds in a real second."""
        return self._speed

    def now(self, real_ns: int = 0) -> int:
        """Return virtual time at this real time; it never goes back, even where real time does."""
        # Whole ns at speed 1: a float product would lose the last digits of an epoch-sized number.
        passed = real_ns - self._real_ns
        virtual = self._virtual_ns + (passed if self._speed == 1.0 else int(passed * self._speed))
        self._last_ns = max(self._last_ns, virtual)
        return self._last_ns

    def set(self, virtual_ns: int, real_ns: int = 0) -> None:
        """Make it this virtual time now.

        Raises:
            ValueError: The time lies in the virtual past; venues' clocks do not run backwards.

        """
        now = self.now(real_ns)
        if virtual_ns < now:
            raise ValueError(f"the clock cannot be set back: it is {now} ns, asked for {virtual_ns} ns")
        self._anchor(virtual_ns, real_ns)

    def advance(self, delta_ns: int, real_ns: int = 0) -> None:
        """Step forward by this much virtual time, on top of what passes by itself."""
        if delta_ns < 0:
            raise ValueError(f"the clock cannot be stepped back by {-delta_ns} ns")
        self._anchor(self.now(real_ns) + delta_ns, real_ns)

    def set_speed(self, speed: float, real_ns: int = 0) -> None:
        """Run at another speed from now on; 0 stops the clock until it is stepped or set."""
        speed = _checked_speed(speed)
        self._anchor(self.now(real_ns), real_ns)
        self._speed = speed

    def _anchor(self, virtual_ns: int, real_ns: int) -> None:
        self._virtual_ns = self._last_ns = virtual_ns
        self._real_ns = real_ns


def _checked_speed(speed: float) -> float:
    if not 0.0 <= speed <= 1e6:
        raise ValueError(f"speed must be 0 (stepped) to 1e6, not {speed!r}")
    return float(speed)
