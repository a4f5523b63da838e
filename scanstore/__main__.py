"""`python -m scanstore` is the command line."""

from __future__ import annotations

from scanstore.cli import main

if __name__ == "__main__":
    main()
