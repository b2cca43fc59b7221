"""``python -m dquant``: the command line.

Until a verb takes the signals over, SIGTERM is what Ctrl-C is: an end without words, exit code 0.
"""

import signal
import sys
from types import FrameType


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from dquant.entrypoint import main

        return main()
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(_run())
