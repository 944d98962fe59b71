"""A process of the laboratory that writes a log: ``python -m tests.faults.disk.talkative LOG worker|client ...``."""

from __future__ import annotations

import logging
import sys

from tests.faults import lab


def main() -> None:
    logging.basicConfig(filename=sys.argv.pop(1), format="%(levelname)s %(name)s %(message)s", level=logging.INFO)
    lab.main()


if __name__ == "__main__":
    main()
