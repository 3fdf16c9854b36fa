"""What stand-ins share: servers that keep the rules of systems that cannot run here, count who breaks them, and do
what a test asks of them.

    python3 tests/stack/bitrix24.py run FOLDER

prints where it listens (URL=...), and ends when its standard input does. What a test asks goes to /stand-in/COMMAND, as JSON.
"""
import argparse, http.server, json, sys, threading, urllib.parse


class Refused(Exception):
    """An answer that is no good one."""

    def __init__(self, status, body, headers=()):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else each answer waits for who asked to say that its head has come.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        system = self.server.system
        try:
            if url.path.startswith("/stand-in/"):
                with system.lock:
                    answer = system.asked(url.path.removeprefix("/stand-in/"), json.loads(body or b"{}"))
            else:
                answer = system.answer(self.command, urllib.parse.unquote(url.path), query, self.headers, body)
        except Refused as refused:
            return self.send(refused.status, refused.body, refused.headers)
        if callable(answer):
            return self.stream(answer)
        self.send(200, answer)

    do_GET = do_POST = do

    def send(self, status, body, headers=()):
        coded = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(coded)))
        self.end_headers()
        self.wfile.write(coded)

    def stream(self, pieces):
        """An answer of unknown length; one whose pieces end early is cut off."""
        self.send_response(200)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in pieces():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except EOFError:
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Who went away in between."""


def run(system):
    parser = argparse.ArgumentParser(description=type(system).__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("folder", help="not used: a stand-in keeps nothing")
    parser.add_argument("--forget", action="store_true", help="the same")
    parser.parse_args()
    server = Server(("127.0.0.1", 0), Handler)
    system.lock = threading.RLock()
    server.system = system
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"URL=http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
