#!/usr/bin/env python3
"""The engine of ClickHouse on a free loopback port, behind an HTTP interface of ours (clickhouse/skin.py).

    tests/stack/clickhouse.py up DIR      start; says where it listens
    tests/stack/clickhouse.py down DIR    end it; what it holds stays in DIR
    tests/stack/clickhouse.py run DIR     the same until standard input ends

With `--engine 26.1` it is an elder one whose Kafka engine works; in the newest it does not, within another process.

`run` is for tests: each line on standard input is a command, answered by one line: `stop` (SIGTERM), `kill` (SIGKILL), `pause`
(SIGSTOP), `resume`, `start`. When standard input ends, however the test ended, so does the engine.

No server of ClickHouse is published where tests can fetch it; the engine is, as a Python package (chdb-core), and what it computes and
keeps is what a server does. Not there: users, row policies, replication, the native protocol, answers that stream, inserts that
the server gathers. Brought once, 0.6 GB, into TRIBUTARY_CACHE (else ~/.cache/tributary). It takes 0.3 to 0.6 GB of memory and 2 s
to start.
"""
import pathlib

import parts

VERSIONS = {"26.9": "26.9.0", "26.1": "26.1.0"}
START_SECONDS_MAX = 60
SOURCE = pathlib.Path(__file__).resolve().parent / "clickhouse"


class ClickHouse(parts.Server):
    """The engine whose data are in a folder."""

    def url(self):
        return f"http://127.0.0.1:{self.settings()['port']}"

    def start(self):
        engine = self.settings()["engine"]
        python = parts.python(f"clickhouse-{VERSIONS[engine]}", SOURCE / f"requirements-{engine}.txt")
        # An analyst's dates are those of the engine's time zone: see sql/README.md.
        command = ["/usr/bin/env", "TZ=UTC", str(python), str(SOURCE / "skin.py"), "--path", str(self.folder / "data"),
                   "--port", str(self.settings()["port"]), "--config", str(SOURCE / "server.xml")]
        self.process.begin(command)
        self.process.await_word("READY", START_SECONDS_MAX)


def main():
    p = parts.options(__doc__)
    p.add_argument("--engine", choices=list(VERSIONS), default="26.9")
    a = p.parse_args()
    parts.run(a, ClickHouse(a.dir), lambda server: server.configure(port=parts.free_ports(1)[0], engine=a.engine))


if __name__ == "__main__":
    main()
