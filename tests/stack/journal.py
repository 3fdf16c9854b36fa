#!/usr/bin/env python3
"""What works the journal's pages and its API from outside: Chromium by selenium, axe for accessibility, schemathesis for the API.

    tests/stack/journal.py python      say which Python has the packages

Brought once, 60 MB, into TRIBUTARY_CACHE (else ~/.cache/tributary). Then:

    PYTHON tests/stack/journal/browser.py --program target/release/tributary --state FOLDER --pictures FOLDER
    PYTHON -m schemathesis.cli --config-file tests/stack/journal/schemathesis.toml run URL/v1/openapi.json --exclude-path /v1/changes
"""
import argparse, pathlib

import parts

SOURCE = pathlib.Path(__file__).resolve().parent / "journal"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["python"])
    p.parse_args()
    # All that is needed is named; of axe's package only the script is, not what would run it elsewhere.
    print(parts.python("journal", SOURCE / "requirements.txt", "--no-deps"))


if __name__ == "__main__":
    main()
