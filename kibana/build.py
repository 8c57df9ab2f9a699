#!/usr/bin/env python3
"""Write kibana/moodle-risk.ndjson, which Kibana imports, from the source beside this file.

    python kibana/build.py            # write it
    python kibana/build.py --check    # exit code 1 if what is there is not what the source says

Needs the packages of this repository (`pip install -e .`): the threshold is the app's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import dashboard
from views import VIEWS

FILE = Path(__file__).resolve().with_name("moodle-risk.ndjson")


def built() -> str:
    """The file's text: a saved object a line, what is referred to before what refers to it."""
    objects = [*(view.saved_object() for view in VIEWS), dashboard.saved_object()]
    return "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in objects)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the file is up to date")
    parser.add_argument("--file", type=Path, default=FILE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    text = built()
    if not options.check:
        options.file.write_text(text, encoding="utf-8")
        print(f"wrote {options.file}")
        return 0
    if options.file.exists() and options.file.read_text(encoding="utf-8") == text:
        return 0
    print(f"build: {options.file} is not what its source says: run python kibana/build.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
