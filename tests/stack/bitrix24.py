"""A stand-in for a portal of Bitrix24, as far as a feed asks it.

The rules, as its documentation has them, but that it lets 5 questions be asked at once and not 50, so that short tests
meet that: 2 requests a second, else 503 QUERY_LIMIT_EXCEEDED; pages of 50;
whoever does not give start=-1 makes it count; of changes a queue holds the last of each object, and event.offline.get deletes
what it hands out unless clear=0 is given, by which it is put aside under a process_id until that is cleared; a webhook may not
use the queue; access tokens expire, and a refresh token is good once.
"""
import datetime, itertools, re, secrets, time, urllib.parse

import stand_in
from stand_in import Refused

PAGE = 50
RATE, AT_ONCE = 2.0, 5
WEBHOOK = "1/webhook5ecret"
CLIENT, CLIENT_SECRET = "local.app", "client5ecret"
ENTITIES = {3: "CONTACT", 4: "COMPANY", 1: "LEAD", 2: "DEAL"}


class Portal:
    __doc__ = __doc__

    def __init__(self):
        self.items = {}
        self.queue = []
        self.bound = set()
        self.numbers = itertools.count(1)
        self.level, self.at = 0.0, time.monotonic()
        self.access, self.refresh = "access-0", "refresh-0"
        self.faults, self.closed = {}, {}
        self.counts = {"too_early": 0, "unheard": 0, "requests": 0, "over_the_limit": 0, "counted": 0, "lost": 0, "handed_out": 0, "cleared": 0, "refreshed": 0, "begun": 0, "failed": 0}

    # What a test asks.

    def asked(self, what, body):
        if what == "put":
            for item in body["items"]:
                self.put(body["entity"], item)
        elif what == "delete":
            for number in body["ids"]:
                del self.items[body["entity"]][number]
                self.happened(body["entity"], "DELETE", number)
        elif what == "expire":
            self.access = secrets.token_hex(8)
        elif what == "fault":
            # The next request of a method, and whatever comes so many seconds before it may: {"method", "status", "error", "for"}; with
            # "is_done" it is done, and nobody hears of it; with "times" so many of them.
            self.faults[body["method"]] = body
        elif what == "mend":
            self.faults.clear()
        elif what == "unbind":
            # As when the application is installed anew.
            self.bound.clear()
        elif what == "queued":
            # The items that its queue holds, those that were put aside among them.
            return sorted({row["EVENT_DATA"]["FIELDS"]["ID"] for row in self.queue})
        elif what == "counts":
            return {**self.counts, "bound": len(self.bound), "queue": len(self.queue), "put_aside": sum(bool(row["PROCESS_ID"]) for row in self.queue)}
        else:
            raise Refused(404, {"error": what})
        return {}

    def put(self, entity, item):
        items = self.items.setdefault(entity, {})
        happened = "UPDATE" if item["id"] in items else "ADD"
        now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=3)))
        items[item["id"]] = {**item, "updatedTime": now.isoformat(timespec="seconds")}
        self.happened(entity, happened, item["id"])

    def happened(self, entity, what, number):
        name = f"ONCRM{ENTITIES[entity]}{what}"
        if name not in self.bound:
            return
        is_it = lambda row: row["EVENT_NAME"] == name and row["EVENT_DATA"]["FIELDS"]["ID"] == number and not row["PROCESS_ID"]
        self.queue = [row for row in self.queue if not is_it(row)]
        self.queue.append({
            "ID": str(next(self.numbers)), "TIMESTAMP_X": time.time(), "EVENT_NAME": name, "EVENT_DATA": {"FIELDS": {"ID": number}},
            "MESSAGE_ID": secrets.token_hex(8), "PROCESS_ID": "", "ERROR": "0"})

    # What a feed asks.

    def answer(self, _, path, query, headers, body):
        with self.lock:
            if path == "/oauth/token/":
                return self.token(query)
            found = re.fullmatch(r"/rest/(?:(.+)/)?([a-z.]+)\.json", path)
            if not found:
                raise Refused(404, {"error": "ERROR_METHOD_NOT_FOUND"})
            self.count_request()
            self.fail(found[2])
            parameters = stand_in.json.loads(body or b"{}")
            is_app = found[1] is None
            if is_app and parameters.pop("auth", None) != self.access:
                raise Refused(401, {"error": "expired_token", "error_description": "The access token provided has expired."})
            if not is_app and found[1] != WEBHOOK:
                raise Refused(401, {"error": "INVALID_CREDENTIALS"})
            result = self.call(found[2], parameters, is_app)
            if self.faults.get(found[2], {}).get("is_done") and result.get("events"):
                self.counts["unheard"] += 1
                self.fail(found[2], is_done=True)
            return {"result": result, "time": {"operating": 0.1}}

    def token(self, query):
        is_right = (query.get("grant_type"), query.get("client_id"), query.get("client_secret")) == ("refresh_token", CLIENT, CLIENT_SECRET)
        if not is_right or query.get("refresh_token") != self.refresh:
            raise Refused(400, {"error": "invalid_grant"})
        self.access, self.refresh = secrets.token_hex(8), secrets.token_hex(8)
        self.counts["refreshed"] += 1
        return {"access_token": self.access, "refresh_token": self.refresh, "expires_in": 3600}

    def count_request(self):
        self.counts["requests"] += 1
        now = time.monotonic()
        self.level, self.at = max(0.0, self.level - RATE * (now - self.at)), now
        if self.level + 1 > AT_ONCE:
            self.counts["over_the_limit"] += 1
            raise Refused(503, {"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"})
        self.level += 1

    def fail(self, method, is_done=False):
        if method in self.closed and time.time() < self.closed[method]:
            self.counts["too_early"] += 1
        fault = self.faults.get(method)
        if fault and fault.get("is_done", False) == is_done:
            fault["times"] = fault.get("times", 1) - 1
            if not fault["times"]:
                del self.faults[method]
            self.counts["failed"] += 1
            self.closed[method] = time.time() + fault["for"]
            raise Refused(fault["status"], {"error": fault["error"], "time": {"operating_reset_at": self.closed[method]}})

    def call(self, method, parameters, is_app):
        call = {"crm.item.list": self.list, "batch": lambda parameters: self.batch(parameters, is_app), "feature.get": self.feature}.get(method)
        offline = {"event.bind": self.bind, "event.get": self.events, "event.offline.get": self.get,
                   "event.offline.list": self.list_queue, "event.offline.clear": self.clear}.get(method)
        if offline and not is_app:
            raise Refused(403, {"error": "WRONG_AUTH_TYPE", "error_description": "Current authorization type is denied for this method"})
        if not call and not offline:
            raise Refused(404, {"error": "ERROR_METHOD_NOT_FOUND"})
        return (call or offline)(parameters)

    def feature(self, parameters):
        return {"value": "Y" if parameters["CODE"] == "rest_offline_extended" else "N"}

    def list(self, parameters):
        entity, wanted = int(parameters["entityTypeId"]), parameters.get("filter") or {}
        beyond = int(wanted.get(">id") or 0)
        since = wanted.get(">=updatedTime")
        among = wanted.get("@id")
        among = among and {int(number) for number in among}
        if int(parameters.get("start", 0)) != -1:
            self.counts["counted"] += 1
        moment = datetime.datetime.fromisoformat
        is_it = lambda item: item["id"] > beyond and (not since or moment(item["updatedTime"]) >= moment(since)) and (among is None or item["id"] in among)
        found = sorted(filter(is_it, self.items.get(entity, {}).values()), key=lambda item: item["id"])
        order = parameters.get("order") or {}
        if order == {"updatedTime": "DESC"}:
            found.sort(key=lambda item: moment(item["updatedTime"]), reverse=True)
        elif list(order) != ["id"]:
            raise Refused(400, {"error": "the stand-in knows two orders"})
        found = found[:PAGE]
        select = set(parameters.get("select") or ["*"])
        taken = lambda item: item if "*" in select else {name: item[name] for name in item if name in select}
        return {"items": [taken(item) for item in found]}

    def batch(self, parameters, is_app):
        results, errors = {}, {}
        if len(parameters["cmd"]) > 50:
            raise Refused(400, {"error": "ERROR_BATCH_LENGTH_EXCEEDED"})
        self.counts["begun"] += next(iter(parameters["cmd"].values())).count("filter[>id]=0&")
        for name, command in parameters["cmd"].items():
            method, _, query = command.partition("?")
            named = re.sub(r"\$result((?:\[\w+\])+)", lambda found: str(lead(results, found[1])), urllib.parse.unquote(query))
            try:
                results[name] = self.call(method, nested(named), is_app)
            except Refused as refused:
                errors[name] = refused.body
                if int(parameters.get("halt", 0)):
                    break
        # What is empty is a list there.
        return {"result": results or [], "result_error": errors or [], "result_total": [], "result_next": []}

    def bind(self, parameters):
        if parameters.get("event_type") != "offline":
            raise Refused(400, {"error": "the stand-in knows the queue alone"})
        name = parameters["event"].upper()
        if name in self.bound:
            raise Refused(400, {"error": "ERROR_EVENT_BINDING_EXISTS", "error_description": "Handler already binded"})
        self.bound.add(name)
        return True

    def events(self, _):
        return [{"event": name, "offline": 1} for name in sorted(self.bound)]

    def is_named(self, parameters):
        names = (parameters.get("filter") or {}).get("EVENT_NAME")
        return lambda row: names is None or row["EVENT_NAME"] in names

    def get(self, parameters):
        limit = min(int(parameters.get("limit", PAGE)), PAGE)
        is_named = self.is_named(parameters)
        rows = [row for row in self.queue if is_named(row) and not row["PROCESS_ID"]][:limit]
        if int(parameters.get("clear", 1)):
            self.counts["lost"] += len(rows)
            self.queue = [row for row in self.queue if row not in rows]
            return {"process_id": None, "events": rows}
        process = secrets.token_hex(8)
        self.counts["handed_out"] += len(rows)
        for row in rows:
            row["PROCESS_ID"] = process
        return {"process_id": process, "events": rows}

    def list_queue(self, parameters):
        wanted = parameters.get("filter") or {}
        is_named = self.is_named(parameters)
        rows = [row for row in self.queue if is_named(row) and (wanted.get("!PROCESS_ID") != "" or row["PROCESS_ID"])]
        beyond = int(wanted.get(">ID") or 0)
        return [row for row in rows if int(row["ID"]) > beyond][:PAGE]

    def clear(self, parameters):
        before = len(self.queue)
        self.queue = [row for row in self.queue if row["PROCESS_ID"] != parameters["process_id"]]
        self.counts["cleared"] += before - len(self.queue)
        return True


def lead(results, steps):
    """What a path through results leads to; nothing where it leads nowhere."""
    for step in re.findall(r"\[(\w+)\]", steps):
        try:
            results = results[int(step)] if isinstance(results, list) else results[step]
        except (IndexError, KeyError, ValueError):
            return ""
    return results


def nested(query):
    """Parameters as PHP reads them: filter[>id]=5."""
    found = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        head, steps = re.match(r"([^\[]+)((?:\[[^\]]*\])*)", name).groups()
        place, steps = found, [head, *re.findall(r"\[([^\]]*)\]", steps)]
        for step in steps[:-1]:
            place = place.setdefault(step, {})
        place[steps[-1]] = value
    for name in ("select",):
        if isinstance(found.get(name), dict):
            found[name] = list(found[name].values())
    return found


if __name__ == "__main__":
    stand_in.run(Portal())
