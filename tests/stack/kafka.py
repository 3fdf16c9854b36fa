#!/usr/bin/env python3
"""A real Kafka on free loopback ports: Apache's own jars, KRaft, one broker or three.

    tests/stack/kafka.py up DIR [--brokers 3] [--set num.partitions=6 ...]   start; says where it listens
    tests/stack/kafka.py down DIR                                            end it; what it holds stays in DIR
    tests/stack/kafka.py run DIR [...]                                       the same until standard input ends

`run` is for tests: each line on standard input is a command, answered by one line: `stop N` (SIGTERM), `kill N` (SIGKILL),
`pause N` (SIGSTOP), `resume N`, `start N`, for broker N from 1; `tool CLASS [ARGUMENT ...]` runs one of Kafka's own tools. When standard input ends, however the test ended, so do the brokers.

A new folder's one broker may have listeners beside the plain one: `--listener PROXIED:PLAINTEXT:9999` is told to its clients as port
9999, where a proxy of the test listens; `--listener SECURE:SASL_SSL` needs settings and users (`--set`, `--scram NAME:PASSWORD`).
Each is said as a line `NAME=ADDRESS` behind the first.

Needs Java 17 or newer (JAVA_HOME, else PATH) and Maven, which brings the jars once, 46 MB, into TRIBUTARY_CACHE (else
~/.cache/tributary). A broker takes 0.4 to 0.8 GB of memory and 4 s to start.
"""
import argparse, base64, pathlib, re, shutil, signal, subprocess, sys, uuid

import parts

VERSION = "3.9.1"
JAVA = 17
START_SECONDS_MAX = 60

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

# What a broker of the tests differs in from one of the world: one copy where there is one broker, and no waiting for groups.
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more_listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more_advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{more_protocols}
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={copies_min}
transaction.state.log.num.partitions=3
default.replication.factor={copies}
min.insync.replicas={copies_min}
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""

LOGGING = """\
log4j.rootLogger=WARN, stdout
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n
"""


def jars():
    """Where the jars are."""
    def make(coming):
        pom = coming / "pom.xml"
        pom.write_text(POM)
        parts.maven(pom, "dependency:copy-dependencies", f"-DoutputDirectory={coming}", "-DincludeScope=runtime")
    return parts.bring(f"kafka-{VERSION}", make)


class Cluster:
    """The brokers whose settings and data are in a folder."""

    def __init__(self, folder, heap):
        self.folder, self.heap, self.processes = pathlib.Path(folder).resolve(), heap, {}
        self.listeners = []  # (name, address) of those beside the plain one

    def nodes(self):
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def configure(self, brokers, settings, listeners=(), users=()):
        """Writes the settings, unless the folder has some already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.nodes():
            return
        if listeners and brokers > 1:
            sys.exit("--listener is for one broker")
        ports = parts.free_ports(2 * brokers + len(listeners))
        more = dict(more_listeners="", more_advertised="", more_protocols="")
        for place, listener in enumerate(listeners):
            name, protocol, *told = listener.split(":")
            port = ports[2 * brokers + place]
            self.listeners.append((name, f"127.0.0.1:{port}"))
            more["more_listeners"] += f",{name}://127.0.0.1:{port}"
            more["more_advertised"] += f",{name}://127.0.0.1:{told[0] if told else port}"
            more["more_protocols"] += f",{name}:{protocol}"
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[2 * n + 1]}" for n in range(brokers))
        # One that begins with a hyphen would be taken for an option.
        identity = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("=")
        (self.folder / "log4j.properties").write_text(LOGGING)
        for n in range(brokers):
            node = self.folder / str(n + 1)
            node.mkdir()
            named = dict(node=n + 1, voters=voters, port=ports[2 * n], controller_port=ports[2 * n + 1], data=node / "data")
            text = PROPERTIES.format(**named, **more, copies=brokers, copies_min=brokers // 2 + brokers % 2)
            (node / "server.properties").write_text(text + "".join(f"{line}\n" for line in settings))
            made = [word for name, _, secret in users for word in ("-S", f"SCRAM-SHA-512=[name={name},password={secret}]")]
            self.java(node, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(node / "server.properties"), *made)

    def command(self, node, main, *arguments):
        memory = [f"-Xms{self.heap}", f"-Xmx{self.heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        logging = f"-Dlog4j.configuration=file:{self.folder / 'log4j.properties'}"
        return [parts.java(JAVA, f"Kafka {VERSION}"), *memory, "-Djava.awt.headless=true", logging, "-cp", f"{jars()}/*", main, *arguments]

    def java(self, node, main, *arguments):
        done = subprocess.run(self.command(node, main, *arguments), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{main} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def port(self, node):
        text = (self.folder / str(node) / "server.properties").read_text()
        return int(re.search(r"^advertised.listeners=PLAINTEXT://127\.0\.0\.1:(\d+)", text, re.M)[1])

    def bootstrap(self):
        return ",".join(f"127.0.0.1:{self.port(node)}" for node in self.nodes())

    def process(self, node):
        return self.processes.setdefault(int(node), parts.Process(self.folder / str(node)))

    def start(self, nodes):
        for node in nodes:
            self.process(node).begin(self.command(node, "kafka.Kafka", str(self.folder / str(node) / "server.properties")))
        for node in nodes:
            self.process(node).await_word("Kafka Server started", START_SECONDS_MAX)

    def stop(self):
        # One that pauses heeds nothing.
        for node in self.nodes():
            self.process(node).send(signal.SIGCONT)
            self.process(node).stop()

    def obey(self, line):
        """Does what a line of standard input asks for; returns the answer."""
        match line.split():
            case ["start", node]:
                self.start([int(node)])
            case ["tool", main, *arguments]:
                self.java(self.folder, main, *arguments)
            case [word, node] if self.process(node).obey(word):
                pass
            case _:
                return f"unknown: {line.strip()!r}; commands: stop, kill, pause, resume, start, each with a broker's number, and tool"
        return "ok"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["up", "down", "run"])
    p.add_argument("dir", help="folder of its settings and data")
    p.add_argument("--brokers", type=int, choices=[1, 3], default=1)
    p.add_argument("--heap", default="512m", help="memory of each broker's heap")
    p.add_argument("--forget", action="store_true", help="with run: remove DIR at the end")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the brokers, of a new folder")
    p.add_argument("--listener", action="append", default=[], metavar="NAME:PROTOCOL[:PORT]", help="a further listener, of a new folder")
    p.add_argument("--scram", action="append", default=[], metavar="NAME:PASSWORD", help="a user, of a new folder")
    a = p.parse_args()
    cluster = Cluster(a.dir, a.heap)
    if a.command == "down":
        if not cluster.folder.is_dir() or not cluster.nodes():
            sys.exit(f"{cluster.folder} holds no brokers")
        cluster.stop()
        return
    cluster.configure(a.brokers, a.set, a.listener, [user.partition(":") for user in a.scram])
    where = lambda: [f"BOOTSTRAP={cluster.bootstrap()}", *(f"{name}={address}" for name, address in cluster.listeners)]
    if a.command == "up":
        cluster.start(cluster.nodes())
        print(*where(), sep="\n", flush=True)
        return
    def end():
        cluster.stop()
        if a.forget:
            shutil.rmtree(cluster.folder, ignore_errors=True)

    parts.serve_commands(lambda: cluster.start(cluster.nodes()), where, cluster.obey, end)


if __name__ == "__main__":
    main()
