"""ClickHouse's HTTP interface over one in-process chDB engine, for tests.

    python skin.py --path ./data --port 8123 [--config server.xml] [--users users.json]

The SQL engine is the real one (chdb-core); only the listener is ours. It says READY once it listens. One process owns one data
folder. Every request gets a connection of its own (about 0.4 ms), so settings and USE never leak; a session_id keeps its connection
until session_timeout.
"""
from __future__ import annotations

import argparse, base64, gzip, json, re, struct, tempfile, threading, time, uuid, zlib
from contextlib import asynccontextmanager

import anyio
import lz4.block, lz4.frame
import uvicorn
import zstandard
from clickhouse_cityhash.cityhash import CityHash128
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chdb.state.sqlitelike import Connection

# ---------------------------------------------------------------- errors
HTTP_OF_CODE = {194: 401, 192: 403, 193: 403, 516: 403, 497: 403, 291: 403,
                159: 408, 229: 413, 48: 501, 209: 503, 210: 503, 439: 503, 202: 503, 76: 503, 241: 500,
                **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 115, 428, 16, 218), 404),
                **dict.fromkeys((6, 26, 27, 28, 33, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 131, 164, 167, 190,
                                 321, 338, 344, 353, 386, 441, 456, 457, 467, 10, 8, 34, 42, 44, 184, 215), 400)}


class ChError(Exception):
    def __init__(self, code: int, text: str):
        self.code, self.text = code, text

    @classmethod
    def of(cls, exc: BaseException) -> "ChError":
        text = str(exc)
        at = text.find("Code: ")
        m = re.match(r"Code: (\d+)\.", text[at:]) if at >= 0 else None
        if not m:
            return cls(1001, f"Code: 1001. DB::Exception: {text} (STD_EXCEPTION)")
        return cls(int(m.group(1)), text[at:])


def err(code: int, name: str, what: str) -> ChError:
    return ChError(code, f"Code: {code}. DB::Exception: {what} ({name})")


# ---------------------------------------------------------------- ClickHouse's own block framing (compress=1 / decompress=1)
def _checksum(raw: bytes) -> bytes:
    h = CityHash128(raw)                       # 128-bit int, high word first in ClickHouse's UInt128 pair
    return struct.pack("<QQ", h >> 64, h & 0xFFFFFFFFFFFFFFFF)


def ch_decompress(data: bytes) -> bytes:
    out, pos = [], 0
    while pos < len(data):
        want, method = data[pos:pos + 16], data[pos + 16]
        size, plain = struct.unpack_from("<II", data, pos + 17)
        body = data[pos + 16:pos + 16 + size]
        if _checksum(body) != want:
            raise err(40, "CHECKSUM_DOESNT_MATCH", "Checksum doesn't match: corrupted data.")
        if method == 0x82:
            out.append(lz4.block.decompress(body[9:], uncompressed_size=plain))
        elif method == 0x90:
            out.append(zstandard.ZstdDecompressor().decompress(body[9:], max_output_size=plain))
        elif method == 0x02:
            out.append(body[9:])
        else:
            raise err(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method: {method}")
        pos += 16 + size
    return b"".join(out)


def ch_compress(data: bytes, block: int = 1 << 20) -> bytes:
    out = []
    for i in range(0, len(data), block):
        plain = data[i:i + block]
        packed = lz4.block.compress(plain, store_size=False)
        body = struct.pack("<BII", 0x82, len(packed) + 9, len(plain)) + packed
        out += (_checksum(body), body)
    return b"".join(out)


def http_decode(data: bytes, enc: str) -> bytes:
    if enc in ("", "identity"):
        return data
    if enc == "gzip":
        return gzip.decompress(data)
    if enc == "deflate":
        return zlib.decompress(data)
    if enc == "lz4":
        return lz4.frame.decompress(data)
    if enc == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    raise err(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown HTTP compression: {enc}")


def http_encode(data: bytes, accept: str) -> tuple[bytes, str]:
    for name in ("lz4", "gzip", "zstd"):       # the server's own order
        if name in accept:
            packed = {"zstd": lambda: zstandard.ZstdCompressor(level=1).compress(data),
                      "lz4": lambda: lz4.frame.compress(data),
                      "gzip": lambda: gzip.compress(data, 3)}[name]()
            return packed, name
    return data, ""


# ---------------------------------------------------------------- just enough SQL to tell statement from data
TOKEN = re.compile(rb"""(?P<skip>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
                       |(?P<str>'(?:\\.|''|[^'\\])*'|`(?:\\.|``|[^`\\])*`|"(?:\\.|""|[^"\\])*")
                       |(?P<word>[A-Za-z_][A-Za-z0-9_]*) |(?P<num>[0-9][0-9A-Za-z_.]*) |(?P<other>.)""", re.X | re.S)
DATA_GAP = re.compile(rb"[ \t\f]*;?[ \t]*\r?\n?")


def scan(sql: bytes):
    """Yield (word, start, end) for every bare word outside brackets, strings and comments."""
    depth = 0
    for m in TOKEN.finditer(sql):
        if m.lastgroup == "other":
            c = m.group()
            depth += c in b"([{"
            depth -= c in b")]}"
        elif m.lastgroup == "word" and depth == 0:
            yield m.group().upper(), m.start(), m.end()


def split_insert(sql: bytes):
    """INSERT ... FORMAT x <data>  ->  (statement, format, data); anything else -> None."""
    words = scan(sql)
    if next(words, (b"",))[0] != b"INSERT":
        return None
    selects = False
    for word, start, end in words:
        if word == b"VALUES" or word == b"INFILE":
            return None
        if word in (b"SELECT", b"WITH"):
            selects = True
        if word == b"FORMAT" and (not selects or re.search(rb"\binput\s*\(", sql[:start], re.I)):
            fmt = re.compile(rb"\s*([A-Za-z0-9_]+)").match(sql, end)
            if not fmt:
                return None
            return sql[:start].decode(), fmt.group(1).decode(), sql[DATA_GAP.match(sql, fmt.end()).end():]
    return None


def explicit_format(sql: bytes) -> str | None:
    found, prev = None, None
    for word, start, end in scan(sql):
        if prev == b"FORMAT":
            found = sql[start:end].decode()
        prev = word
    return found


MIME = {"TabSeparated": "text/tab-separated-values; charset=UTF-8", "CSV": "text/csv; charset=UTF-8",
        "JSON": "application/json; charset=UTF-8", "JSONCompact": "application/json; charset=UTF-8",
        "JSONEachRow": "application/x-ndjson; charset=UTF-8"}
NOT_SETTINGS = {"query", "database", "default_format", "user", "password", "quota_key", "compress", "decompress", "query_id",
                "session_id", "session_timeout", "session_check", "close_session", "stacktrace", "role", "buffer_size",
                "wait_end_of_query", "client_protocol_version", "enable_http_compression", "http_write_exception_in_output_format"}


# ---------------------------------------------------------------- the engine
def lit(s: str) -> str:
    return "'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Engine:
    def __init__(self, path: str, config: str | None, users: dict | None):
        self.url = path + (f"?config-file={config}" if config else "")
        self.users = users
        self.root = Connection(self.url)       # keeps the engine up between requests
        self.version = self.root.query("SELECT version()", "TSV").bytes().decode().strip()
        self.timezone = self.root.query("SELECT serverTimezone()", "TSV").bytes().decode().strip()
        self.sessions: dict[tuple, list] = {}  # (user, id) -> [connection, lock, deadline, is read-only]
        self.guard = threading.Lock()

    def login(self, user: str, password: str) -> dict:
        if self.users is None:
            return {}
        rights = self.users.get(user)
        if rights is None or rights.get("password", "") != password:
            raise err(516, "AUTHENTICATION_FAILED", f"{user}: Authentication failed: password is incorrect, or there is no user "
                      "with such name.")
        return rights

    def connect(self) -> Connection:
        return Connection(self.url)

    def session(self, user: str, sid: str, timeout: float, check: bool):
        key = (user, sid)
        with self.guard:
            now = time.monotonic()
            for old in [k for k, v in self.sessions.items() if v[2] < now and not v[1].locked()]:
                self.sessions.pop(old)[0].close()
            if key not in self.sessions:
                if check:
                    raise err(372, "SESSION_NOT_FOUND", f"Session {sid} not found")
                self.sessions[key] = [self.connect(), threading.Lock(), now + timeout, False]
            entry = self.sessions[key]
            if not entry[1].acquire(blocking=False):
                raise err(373, "SESSION_IS_LOCKED", f"Session {sid} is locked by a concurrent client")
            entry[2] = now + timeout
            return entry

    def insert(self, conn, head: str, fmt: str, data: bytes) -> tuple[int, int]:
        if hasattr(conn, "send_insert"):
            with conn.send_insert(head, fmt) as ins:
                if data:
                    ins.append(data)
                res = ins.finish()
            # A table that takes nothing (too many parts, read-only) is not told of in this way: then it is asked in the other.
            if res.rows_written or not data:
                return res.rows_written, res.bytes_written
        with tempfile.NamedTemporaryFile() as f:   # engines before 26.3 have no streaming insert
            f.write(data)
            f.flush()
            settings = re.search(r"\bSETTINGS\b.*$", head, re.I | re.S)
            head, tail = (head[:settings.start()], head[settings.start():]) if settings else (head, "")
            res = conn._conn.query(f"{head} FROM INFILE {lit(f.name)} COMPRESSION 'none' {tail} FORMAT {fmt}", "Null")
        return res.rows_written() if hasattr(res, "rows_written") else 0, 0

    def run(self, args: dict, sql: bytes, user: str, rights: dict, read_only: bool):
        """-> (body, format, summary)"""
        started = time.perf_counter()
        entry, conn = None, None
        try:
            if args.get("session_id"):
                entry = self.session(user, args["session_id"], float(args.get("session_timeout", 60)), args.get("session_check") == "1")
                conn = entry[0]
            else:
                conn = self.connect()
            db = args.get("database")
            if db and db != "default":
                conn.query(f"USE `{db}`", "Null")
            sets = {k: v for k, v in args.items() if k not in NOT_SETTINGS and not k.startswith("param_")}
            if args.get("query_id"):
                sets.setdefault("log_comment", args["query_id"])
            if rights.get("readonly"):
                sets.pop("readonly", None)
            if sets:
                conn.query("SET " + ", ".join(f"`{k}` = {lit(v)}" for k, v in sets.items()), "Null")
            params = {k: v for k, v in args.items() if k.startswith("param_")}
            if params:                          # both sides use the same escaped form
                conn.query("SET " + ", ".join(f"`{k}` = {lit(v)}" for k, v in params.items()), "Null")
            if entry and not rights.get("readonly"):
                read_only = False               # readonly cannot be taken back, so a GET must not put it on a session
            read_only = read_only or bool(rights.get("readonly"))
            if read_only and not (entry and entry[3]):
                conn.query("SET readonly = 2", "Null")
                if entry:
                    entry[3] = True
            fmt = args.get("default_format") or "TabSeparated"
            summary = dict(read_rows=0, read_bytes=0, written_rows=0, written_bytes=0, result_rows=0, result_bytes=0)
            insert = split_insert(sql)
            if insert:
                if read_only:
                    raise err(164, "READONLY", "Cannot execute query in readonly mode")
                head, in_fmt, data = insert
                out = b""
                written = self.insert(conn, head, in_fmt, data)
                summary.update(written_rows=written[0], written_bytes=written[1])
            else:
                fmt = explicit_format(sql) or fmt
                text = sql.decode("utf-8")
                if not text.strip():
                    raise err(62, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): . Empty query")
                if hasattr(conn._conn, "classify_query") and conn._conn.classify_query(text).get("statement_count", 1) > 1:
                    raise err(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
                res = conn._conn.query(text, fmt)
                out = res.bytes() or b""
                stat = lambda name: getattr(res, name, int)()
                summary.update(read_rows=stat("storage_rows_read"), read_bytes=stat("storage_bytes_read"),
                               written_rows=stat("rows_written"), written_bytes=stat("bytes_written"),
                               result_rows=stat("rows_read"), result_bytes=len(out))
            summary["elapsed_ns"] = int((time.perf_counter() - started) * 1e9)
            return out, fmt, summary
        finally:
            if entry:
                entry[1].release()
                if args.get("close_session") == "1":
                    with self.guard:
                        self.sessions.pop((user, args["session_id"]), [conn])[0].close()
            elif conn is not None:
                conn.close()


# ---------------------------------------------------------------- HTTP
def credentials(req: Request) -> tuple[str, str]:
    auth = req.headers.get("authorization", "")
    if auth.lower().startswith("basic "):
        user, _, password = base64.b64decode(auth[6:]).decode().partition(":")
        return user or "default", password
    q = req.query_params
    return (req.headers.get("x-clickhouse-user") or q.get("user") or "default",
            req.headers.get("x-clickhouse-key") or q.get("password") or "")


def make_app(engine: Engine, threads: int) -> Starlette:
    limiter = anyio.CapacityLimiter(threads)

    async def ping(_):
        return Response("Ok.\n", media_type="text/plain")

    async def root(req: Request):
        qid = req.query_params.get("query_id") or str(uuid.uuid4())
        head = {"X-ClickHouse-Server-Display-Name": "skin", "X-ClickHouse-Query-Id": qid,
                "X-ClickHouse-Timezone": engine.timezone, "Server": "skin"}
        try:
            args = dict(req.query_params)
            if req.headers.get("x-clickhouse-database"):
                args.setdefault("database", req.headers["x-clickhouse-database"])
            if req.headers.get("x-clickhouse-format"):
                args.setdefault("default_format", req.headers["x-clickhouse-format"])
            user, password = credentials(req)
            rights = engine.login(user, password)
            body = b""
            if req.headers.get("content-type", "").startswith("multipart/form-data"):
                form = await req.form()
                for k, v in form.multi_items():
                    if not isinstance(v, str):
                        raise err(48, "NOT_IMPLEMENTED", "external tables are not supported")
                    args[k] = v
            else:
                body = await req.body()
            if req.method in ("GET", "HEAD") and not args.get("query") and not body:
                return await ping(req)

            def work():
                data = http_decode(body, req.headers.get("content-encoding", ""))
                if args.get("decompress") == "1":
                    data = ch_decompress(data)
                query = args.get("query", "").encode()
                sql = query + b"\n" + data if query and data else query or data
                out, fmt, summary = engine.run(args, sql, user, rights, req.method in ("GET", "HEAD"))
                enc = ""
                if args.get("compress") == "1":
                    out = ch_compress(out)
                elif args.get("enable_http_compression", "1") == "1" and out:     # 1 is the engine's default
                    out, enc = http_encode(out, req.headers.get("accept-encoding", ""))
                return out, fmt, summary, enc

            out, fmt, summary, enc = await anyio.to_thread.run_sync(work, limiter=limiter)
            head |= {"X-ClickHouse-Format": fmt, "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}),
                     "Content-Type": MIME.get(fmt, "application/octet-stream" if fmt in ("Native", "RowBinary") else "text/plain; charset=UTF-8")}
            if enc:
                head["Content-Encoding"] = enc
            return Response(out, headers=head)
        except Exception as exc:
            e = exc if isinstance(exc, ChError) else ChError.of(exc)
            text = e.text if "(version " in e.text else f"{e.text} (version {engine.version} (official build))"
            head |= {"X-ClickHouse-Exception-Code": str(e.code), "Content-Type": "text/plain; charset=UTF-8"}
            if e.code in (194, 516):
                head["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            return Response(text + "\n", status_code=HTTP_OF_CODE.get(e.code, 500), headers=head)

    @asynccontextmanager
    async def lifespan(_):
        yield
        for conn, *_ in engine.sessions.values():
            conn.close()
        engine.root.close()

    return Starlette(lifespan=lifespan, routes=[Route("/ping", ping), Route("/replicas_status", ping),
                                                Route("/", root, methods=["GET", "POST", "HEAD"])])


class Server(uvicorn.Server):
    """One that says when it listens."""

    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("READY", flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--path", required=True)
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=8123)
    ap.add_argument("--config", help="a ClickHouse server XML file (query_log, merge_tree, users ...)")
    ap.add_argument("--users", help='JSON: {"name": {"password": "...", "readonly": true}}')
    ap.add_argument("--threads", type=int, default=16)
    a = ap.parse_args()
    users = json.load(open(a.users)) if a.users else None
    app = make_app(Engine(a.path, a.config, users), a.threads)
    config = uvicorn.Config(app, host=a.host, port=a.port, log_level="warning", access_log=False, timeout_keep_alive=30, server_header=False)
    Server(config).run()


if __name__ == "__main__":
    main()
