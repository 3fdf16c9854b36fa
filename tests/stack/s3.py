#!/usr/bin/env python3
"""A stand-in for an object store that speaks S3, on a free loopback port: moto, which keeps what it is given in memory.

    tests/stack/s3.py up DIR      start; says where it listens
    tests/stack/s3.py down DIR    end it
    tests/stack/s3.py run DIR     the same until standard input ends

It lets everyone in, and keeps the rules that an archive rests on: what is put is there at once and as a whole, and `If-None-Match: *`
is refused where the name is taken. Brought once, 60 MB, into TRIBUTARY_CACHE (else ~/.cache/tributary).
"""
import pathlib

import parts

START_SECONDS_MAX = 60
SOURCE = pathlib.Path(__file__).resolve().parent / "s3"


class Store(parts.Server):
    """The store."""

    def url(self):
        return f"http://127.0.0.1:{self.settings()['port']}"

    def start(self):
        python = parts.python("s3", SOURCE / "requirements.txt", "--no-deps")
        # What it compiles goes to the folder, which names the process so.
        self.process.begin([str(python), "-X", f"pycache_prefix={self.folder}", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.settings()["port"])])
        self.process.await_word("Running on", START_SECONDS_MAX)


def main():
    a = parts.options(__doc__).parse_args()
    parts.run(a, Store(a.dir), lambda server: server.configure(port=parts.free_ports(1)[0]))


if __name__ == "__main__":
    main()
