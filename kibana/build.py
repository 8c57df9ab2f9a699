#!/usr/bin/env python3
"""Build kibana/moodle-risk.ndjson, the file that Kibana imports, from the modules in this folder.

    python kibana/build.py            # write the file
    python kibana/build.py --check    # exit code 1 if the file is out of date

Needs the packages of this repository (`pip install -e .`), because the threshold is imported from models.
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


def content() -> str:
    """Return the file's content: one saved object per line, each after the objects it refers to."""
    objects = [*(view.saved_object() for view in VIEWS), dashboard.saved_object()]
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in objects)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only check whether the file is up to date")
    parser.add_argument("--file", type=Path, default=FILE, help="file to write or check (default: %(default)s)")
    options = parser.parse_args(arguments)
    text = content()
    if not options.check:
        options.file.write_text(text, encoding="utf-8")
        print(f"wrote {options.file}")
        return 0
    if options.file.exists() and options.file.read_text(encoding="utf-8") == text:
        return 0
    print(f"build: {options.file} is out of date: run python kibana/build.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
