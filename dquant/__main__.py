"""``python -m dquant``: the command line.

Until a verb takes the signals over, they end the process at once and without words, exit code 0: an
exception in the middle of an import is a traceback at best, and has crashed C extensions. Children
notice the end by themselves.
"""

import os
import signal
import sys
from types import FrameType

from dquant.constants import EXIT_DONE


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_DONE)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(each, _end)
    from dquant.entrypoint import main

    sys.exit(main())
