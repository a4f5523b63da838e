"""`python -m scanstore` is the command line."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def run() -> None:
    """Run the command line. A Ctrl-C while it is imported is one line too, with exit code 130."""
    try:
        from scanstore.cli import main  # start-up: an interrupt of it is caught here

        main()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("Interrupted.\n")
        _leave()
        sys.exit(INTERRUPTED)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _leave()
        raise


def _leave() -> None:
    """Let a further Ctrl-C end the process silently, and a pipe whose reader was interrupted too cost no message."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            except (OSError, ValueError):
                continue


if __name__ == "__main__":
    run()
