#!/usr/bin/env python3
"""A real Elasticsearch node on a free loopback port, put together from Maven Central's artifacts.

    tests/stack/elasticsearch.py up DIR [--set NAME=VALUE ...]   start; says where it listens
    tests/stack/elasticsearch.py down DIR                        end it; what it holds stays in DIR
    tests/stack/elasticsearch.py run DIR [...]                   the same until standard input ends

`run` is for tests: each line on standard input is a command, answered by one line: `stop` (SIGTERM), `kill` (SIGKILL), `pause`
(SIGSTOP), `resume`, `start`. When standard input ends, however the test ended, so does the node.

Needs a JDK of version 21 or newer (JAVA_HOME, else PATH, else the newest in /usr/lib/jvm) and Maven, which brings the jars once, 38 MB,
into TRIBUTARY_CACHE (else ~/.cache/tributary). The node takes 0.3 to 0.6 GB of memory and 3 to 10 s to start. What Elastic does not
publish as artifacts is not there: no security, no TLS, no scripts, and so no *_by_query.
"""
import json, os, pathlib, shutil, sys, time, urllib.request

import parts

VERSION = "9.0.2"
JAVA = 21
HEAP = "512m"
START_SECONDS_MAX = 90
SOURCE = pathlib.Path(__file__).resolve().parent / "elasticsearch"


def java():
    return parts.java(JAVA, f"Elasticsearch {VERSION}")


def home():
    """Where the server is: its libraries and modules."""
    def make(coming):
        shutil.copytree(SOURCE, coming, dirs_exist_ok=True)
        # Maven compiles by the Java that runs the node.
        jdk = pathlib.Path(shutil.which(java())).resolve().parent.parent
        if not (jdk / "bin" / "javac").exists():
            sys.exit(f"{jdk} has no javac: the node's starter is compiled once; install a JDK of version {JAVA} or newer")
        parts.maven(coming / "pom.xml", "package", env={**os.environ, "JAVA_HOME": str(jdk)})
    return parts.bring(f"elasticsearch-{VERSION}", make) / "target" / "home"


class Node(parts.Server):
    """The node whose settings and data are in a folder."""

    def url(self):
        return f"http://127.0.0.1:{self.settings()['ports'][0]}"

    def start(self):
        settings, at = self.settings(), home()
        # Classes as they were linked by an earlier node: half of the time of a start.
        archive = parts.cache() / f"elasticsearch-{VERSION}.jsa"
        command = [
            java(), f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}", "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow", "-Dlog4j2.disable.jmx=true", "-Des.log=WARN",
            "-cp", f"{at / 'lib'}/*", "launcher.Launcher", str(at), str(self.folder), *map(str, settings["ports"]),
            # Where snapshots of indices may be kept.
            f"path.repo={self.folder / 'snapshots'}", *settings["settings"],
        ]
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.process.begin(command)
        self.process.await_word("READY", START_SECONDS_MAX)
        # The node serves before it has its indices again.
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.url()}/_cluster/health", timeout=START_SECONDS_MAX) as answer:
                health = json.load(answer)
            if health["status"] != "red" and health["initializing_shards"] == 0:
                return
            time.sleep(0.05)
        sys.exit(f"the node's indices did not come back in {START_SECONDS_MAX} s: {health}")


def main():
    p = parts.options(__doc__)
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the node, of a new folder")
    a = p.parse_args()
    parts.run(a, Node(a.dir), lambda node: node.configure(ports=parts.free_ports(2), settings=a.set))


if __name__ == "__main__":
    main()
