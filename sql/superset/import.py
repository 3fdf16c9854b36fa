#!/usr/bin/env python3
"""Brings the dashboards of the attendance journal into Apache Superset (4.1 or newer; tried on 4.1.4 and 6.1.0).

    import.py --superset http://127.0.0.1:8088 --username admin --password-file ~/superset.password \\
              --clickhouse clickhousedb://reader@127.0.0.1:8123/university --clickhouse-password-file ~/clickhouse.password

What comes: the database "Журнал посещаемости", its datasets and charts, and three dashboards, under /superset/dashboard/:
    attendance-groups      Посещаемость по группам
    attendance-teachers    Посещаемость у преподавателя
    attendance-deanery     Деканат: студенты в зоне риска

It may be called again at any time: everything is known by its UUID, so that nothing doubles, and what was changed in Superset is put
back as it stands in the folder: connection, columns, metrics, charts, dashboards, filters. To keep a change of yours, save the chart
or dashboard under another name, or write it into the folder. What is not in the folder is left alone: roles, owners, other charts.

Superset needs the package clickhouse-connect, and must reach ClickHouse at the address given: this is the address as Superset's
machine sees it. The user of ClickHouse needs no more than to read the views `latest_attendance_mv` and `attendance_frontier`.
The user of Superset needs the role Admin.

Passwords are read from files or from the environment, and never shown: Superset's from --password-file or SUPERSET_PASSWORD, that of
ClickHouse from --clickhouse-password-file or CLICKHOUSE_PASSWORD; without either, ClickHouse is asked without a password.
Needs nothing but Python 3.9.
"""
import argparse, http.cookiejar, io, json, os, pathlib, re, sys, urllib.error, urllib.parse, urllib.request, uuid, zipfile

BUNDLE = pathlib.Path(__file__).resolve().parent
DATABASE = "databases/journal.yaml"
FRESHNESS = "datasets/journal/attendance_frontier.yaml"
# By this word Superset knows that the password comes beside the address.
MASK = "X" * 10
TIMEOUT_SECONDS = 300


class Superset:
    """Superset's REST interface, for one user."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.headers = {"Accept": "application/json", "Referer": self.url}

    def ask(self, method, path, body=None, content_type="application/json"):
        """The answer's status and its JSON; what is no JSON comes as its text."""
        data = json.dumps(body).encode() if content_type == "application/json" and body is not None else body
        headers = dict(self.headers, **{"Content-Type": content_type} if data is not None else {})
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with self.opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                status, said = answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read().decode(errors="replace")
        except (OSError, urllib.error.URLError) as error:
            sys.exit(f"Superset does not answer at {self.url}: {getattr(error, 'reason', error)}\n"
                     "Is it running, is the address right (http or https, port), does a proxy stand between?")
        try:
            return status, json.loads(said)
        except ValueError:
            return status, said

    def log_in(self, username, password, provider):
        status, said = self.ask("POST", "/api/v1/security/login",
                                {"username": username, "password": password, "provider": provider, "refresh": False})
        if status == 401:
            sys.exit(f"Superset refused the user {username!r}: wrong name or password, or the user is not active.\n"
                     "Where users come from a directory, try --provider ldap.")
        if status != 200 or not isinstance(said, dict) or "access_token" not in said:
            sys.exit(f"{self.url} answered the login with {status}: {words(said)}\n"
                     "Is this the address of Superset, with nothing behind it?")
        self.headers["Authorization"] = "Bearer " + said["access_token"]
        status, said = self.ask("GET", "/api/v1/security/csrf_token/")
        if status != 200:
            sys.exit(f"Superset gave no CSRF token ({status}): {words(said)}\n"
                     f"The user {username!r} may lack rights: it needs the role Admin.")
        self.headers["X-CSRFToken"] = said["result"]

    def import_assets(self, bundle, passwords):
        body, content_type = form({"passwords": json.dumps(passwords)}, {"bundle": ("bundle.zip", bundle)})
        status, said = self.ask("POST", "/api/v1/assets/import/", body, content_type)
        if status == 403:
            sys.exit("Superset refused the import: the user may not import assets. It needs the role Admin.")
        if status != 200:
            sys.exit(f"Superset refused the import ({status}), and nothing was changed:\n{words(said)}{remedy(words(said))}")

    def freshness(self, dataset):
        """What the dashboards show of how fresh the data are: a proof that Superset reaches ClickHouse. Or why not."""
        # 4.1 does not look for a UUID.
        status, said = self.ask("GET", "/api/v1/dataset/?q=(filters:!((col:table_name,opr:eq,value:attendance_frontier)),columns:!(id,uuid))")
        ids = [one["id"] for one in said["result"] if one["uuid"] == dataset] if status == 200 else []
        if not ids:
            return None, f"the dataset attendance_frontier is not to be found ({status}): {words(said)}"
        query = {"datasource": {"id": ids[0], "type": "table"}, "force": True,
                 "queries": [{"columns": [], "metrics": ["up_to_shown", "age_shown"], "row_limit": 1}]}
        status, said = self.ask("POST", "/api/v1/chart/data", query)
        if status != 200:
            return None, words(said)
        row = said["result"][0]["data"][0]
        return f"{row['up_to_shown']} ({row['age_shown']})", None


def words(said):
    """What an answer of Superset's says, for people."""
    if not isinstance(said, dict):
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", str(said))).strip()[:1000]
    lines = []
    for error in said.get("errors", []):
        lines.append(f"  {error.get('message')}")
        for name, what in (error.get("extra") or {}).items():
            if name != "issue_codes":
                lines.append(f"    {name}: {json.dumps(what, ensure_ascii=False) if not isinstance(what, str) else what}")
    if not lines:
        lines.append("  " + str(said.get("message") or said.get("msg") or said)[:2000])
    return "\n".join(lines)


def remedy(said):
    if "unknown reason" in said:
        return "\nSuperset's log says why; most often a file of the folder names something by a UUID that no other file bears."
    if "clickhousedb" in said or "load plugin" in said.lower():
        return "\nSuperset lacks the driver: install clickhouse-connect into its environment, and start it anew."
    return ""


def form(fields, files):
    """A multipart form: its bytes and its content type."""
    boundary = uuid.uuid4().hex
    body = io.BytesIO()
    for name, value in fields.items():
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, (file_name, content) in files.items():
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
                   "Content-Type: application/zip\r\n\r\n".encode() + content + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return body.getvalue(), f"multipart/form-data; boundary={boundary}"


def set_line(text, key, value):
    """YAML text with another value of a key of the topmost level that stands in one line."""
    changed, times = re.subn(rf"^{key}: .*$", lambda _: f"{key}: {json.dumps(value, ensure_ascii=False)}", text, flags=re.MULTILINE)
    if times != 1:
        sys.exit(f"{key} stands {times} times in a file of {BUNDLE}, where once was awaited: is the folder whole?")
    return changed


def packed(address, with_password):
    """The folder as one ZIP, for this address of ClickHouse. The same folder makes the same bytes."""
    user, _, place = address.netloc.rpartition("@")
    netloc = f"{user or 'default'}:{MASK}@{place}" if with_password else address.netloc
    uri = urllib.parse.urlunsplit(address._replace(netloc=netloc))
    schema = address.path.strip("/")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(BUNDLE.rglob("*.yaml")):
            name = path.relative_to(BUNDLE).as_posix()
            text = path.read_text(encoding="utf-8")
            if name == DATABASE:
                text = set_line(text, "sqlalchemy_uri", uri)
            if name.startswith("datasets/"):
                text = set_line(text, "schema", schema)
            entry = zipfile.ZipInfo("bundle/" + name, (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return packed.getvalue()


def uuid_of(name):
    return re.search(r"^uuid: (\S+)$", (BUNDLE / name).read_text(encoding="utf-8"), re.MULTILINE)[1]


def password_of(file, variable):
    if file is None:
        return os.environ.get(variable)
    try:
        return pathlib.Path(file).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        sys.exit(f"{file} can't be read: {error.strerror}. It is to hold one password in its first line.")


def address_of(uri):
    try:
        address = urllib.parse.urlsplit(uri)
        whole = address.scheme == "clickhousedb" and address.hostname and re.fullmatch(r"/[^/]+", address.path) and (address.port or True)
    except ValueError:
        whole = False
    if not whole:
        sys.exit(f"--clickhouse is to look like clickhousedb://reader@127.0.0.1:8123/university, not like {uri!r}.\n"
                 "The port is that of ClickHouse's HTTP interface; for HTTPS write ...:8443/university?secure=true")
    if address.password is not None:
        sys.exit("--clickhouse holds a password, which others could read in the list of processes.\n"
                 "Write it into a file, and name that by --clickhouse-password-file.")
    return address


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--superset", required=True, metavar="URL", help="where Superset listens, as http://127.0.0.1:8088")
    p.add_argument("--username", required=True, help="a user of Superset's with the role Admin")
    p.add_argument("--password-file", metavar="FILE", help="holds that user's password; else SUPERSET_PASSWORD does")
    p.add_argument("--provider", choices=["db", "ldap"], default="db", help="where Superset looks for users: %(default)s if not given")
    p.add_argument("--clickhouse", required=True, metavar="URI", help="clickhousedb://user@host:port/database, as seen from Superset")
    p.add_argument("--clickhouse-password-file", metavar="FILE", help="holds the password of ClickHouse's user; else CLICKHOUSE_PASSWORD does")
    a = p.parse_args()
    if urllib.parse.urlsplit(a.superset).scheme not in ("http", "https"):
        sys.exit(f"--superset is to begin with http:// or https://, not like {a.superset!r}")
    address = address_of(a.clickhouse)
    password = password_of(a.password_file, "SUPERSET_PASSWORD")
    if password is None:
        sys.exit("no password of Superset's user: name a file by --password-file, or set SUPERSET_PASSWORD")
    clickhouse_password = password_of(a.clickhouse_password_file, "CLICKHOUSE_PASSWORD")
    superset = Superset(a.superset)
    superset.log_in(a.username, password, a.provider)
    # Without a password, one that Superset may hold from before is to go: hence the null.
    superset.import_assets(packed(address, bool(clickhouse_password)), {DATABASE: clickhouse_password or None})
    for path in sorted((BUNDLE / "dashboards").glob("*.yaml")):
        print(f"{superset.url}/superset/dashboard/{path.stem}/")
    shown, trouble = superset.freshness(uuid_of(FRESHNESS))
    if trouble:
        sys.exit(f"The dashboards are there, but Superset gets no data from {a.clickhouse}:\n{trouble}\n"
                 "Does ClickHouse listen at this address, as seen from Superset, and do the user and its password hold? Then call again.")
    print(f"data are complete up to: {shown}")


if __name__ == "__main__":
    main()
