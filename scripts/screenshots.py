"""Take a picture of a page for the documents: ``screenshots.py PAGE.html docs/images/NAME.png``.

The pages are real ones, of a demo lab: ``djops demo``, then ``djops onboard nina analyst ephys`` for the
welcome and ``djops audit --to report`` for the audit. Chromium is fetched as the tests of these pages do it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.browser import browser


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="the page")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--width", type=int, default=1180, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=1500, help="of the window, in pixels")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as state, browser(Path(state)) as shown:
        shown.open(told.page.resolve(), width=told.width, height=told.height)
        told.picture.write_bytes(shown.picture())


if __name__ == "__main__":
    main()
