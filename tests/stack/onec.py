"""A stand-in for a base of 1C behind its standard OData interface, as far as a feed asks it.

The rules: entries come by $skip and $top, in the order of what they are called; a key cannot be compared, so no page begins beyond one; a
page of more than 4 MB runs out of disk. SelectChanges hands out all that is registered for a node, under the message's number,
whatever $top says, again and again until NotifyChangesReceived says that number: then it is forgotten for good, but for what has
changed since it was handed out. The base's own node is no place to exchange with. Counted as broken: a confirmation of what
was not handed out whole, and questions that the base does not understand.
"""
import base64, re, uuid

import stand_in
from stand_in import Refused

ROOT = "/base/odata/standard.odata/"
PAGE_BYTES = 4 << 20
USER, PASSWORD = "feed", "pa55word"


class Base:
    __doc__ = __doc__

    def __init__(self):
        self.entries = {}
        # By entity and key, the message under which a change was handed out; None where it was not yet.
        self.registered = {}
        self.received, self.sent = 4, 7
        self.node, self.own = str(uuid.uuid5(uuid.NAMESPACE_URL, "node")), str(uuid.uuid5(uuid.NAMESPACE_URL, "own"))
        self.versions = 0
        self.whole = None
        self.fault, self.keyless, self.is_tight = None, [], False
        self.refuses = {}
        self.counts = {"pages": 0, "by_key": 0, "selects": 0, "notifies": 0, "broken": 0, "not_understood": 0, "no_disk": 0, "begun": 0, "refused": 0}

    # What a test asks.

    def asked(self, what, body):
        if what == "put":
            for entry in body["entries"]:
                self.versions += 1
                version = base64.b64encode(self.versions.to_bytes(8, "big")).decode()
                key = entry["Ref_Key"]
                self.entries.setdefault(body["entity"], {})[key] = {"DeletionMark": False, **entry, "DataVersion": version}
                self.registered[body["entity"], key] = None
        elif what == "delete":
            for key in body["keys"]:
                del self.entries[body["entity"]][key]
                self.registered[body["entity"], key] = None
        elif what == "unregister":
            # As if the node had been made just now.
            self.registered.clear()
        elif what == "forget":
            # They are gone, and nobody is told.
            for key in body["keys"]:
                del self.entries[body["entity"]][key]
        elif what == "tight":
            # Whether a page of more than five entries breaks off amid its body.
            self.is_tight = body["is"]
        elif what == "keyless":
            # Whether there is an entry without a key, in pages and messages.
            self.keyless = [{"odata.type": "StandardODATA.Catalog_Студенты", "Description": "nobody"}] if body["is"] else []
        elif what == "refuse":
            # {} for nothing; {"messages": true}: no message; {"beyond": 100}: no page beyond a position; {"all": true}: once an entry
            # was asked for by its key, nothing is published any more; {"bad": [KEY]}: whatever holds these entries; {"hidden": [KEY]}:
            # these are on no page, and the first question for each is answered as if it were not there.
            self.refuses = body
        elif what == "fault":
            # {"what": "cut" | "half" | "large" | "lost", "bytes"}: of the next message, or of its confirmation.
            self.fault = body
        elif what == "registered":
            return sorted({key for _, key in self.registered})
        elif what == "counts":
            return {**self.counts, "registered": len(self.registered), "received": self.received}
        else:
            raise Refused(404, {"error": what})
        return {}

    # What a feed asks.

    def answer(self, method, path, query, headers, _):
        shown = base64.b64decode((headers.get("authorization") or "").removeprefix("Basic ")).decode()
        if shown != f"{USER}:{PASSWORD}":
            raise Refused(401, {"odata.error": {"code": "401"}})
        if not path.startswith(ROOT):
            raise Refused(404, {"odata.error": {"code": "404"}})
        name = path.removeprefix(ROOT)
        with self.lock:
            if query.get("$format") != "json":
                self.refuse("the stand-in knows JSON alone")
            if name == "ExchangePlan_Tributary":
                node = lambda key, code, own: {"Ref_Key": key, "Code": code, "SentNo": str(self.sent), "ReceivedNo": str(self.received), "ThisNode": own, "DeletionMark": False}
                return {"value": [node(self.own, "MAIN", True), node(self.node, "TRIBUTARY", False)]}
            if name == "SelectChanges" and method == "POST":
                return self.select(query)
            if name == "NotifyChangesReceived" and method == "POST":
                return self.notify(query)
            found = re.fullmatch(r"(\w+)\(guid'(.*)'\)", name)
            if found:
                if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found[2]):
                    self.refuse("no key")
                self.counts["by_key"] += 1
                self.withhold()
                entry = self.entries.get(found[1], {}).get(found[2])
                if found[2] in self.refuses.get("bad", []):
                    self.break_down()
                is_denied = found[2] in self.refuses.get("hidden", []) and found[2] not in self.refuses.setdefault("denied", [])
                if is_denied:
                    self.refuses["denied"].append(found[2])
                    self.counts["refused"] += 1
                if not entry or is_denied:
                    raise Refused(404, {"odata.error": {"code": "9", "message": {"value": "no such entry"}}})
                return self.taken(entry, query)
            return self.page(name, query)

    def refuse(self, why):
        self.counts["not_understood"] += 1
        raise Refused(500, {"odata.error": {"code": "-1", "message": {"value": why}}})

    def break_down(self):
        self.counts["refused"] += 1
        raise Refused(500, {"odata.error": {"code": "-1", "message": {"value": "Ошибка при получении данных"}}})

    def withhold(self):
        """Nobody may ask for entries any more."""
        if self.refuses.get("all"):
            self.refuses["is_withheld"] = True
            self.counts["refused"] += 1
            raise Refused(404, {"odata.error": {"code": "8", "message": {"value": "no such entity"}}})

    def taken(self, entry, query):
        select = query.get("$select")
        return {name: entry[name] for name in entry if not select or name in select.split(",")}

    def page(self, entity, query):
        if self.refuses.get("is_withheld"):
            self.withhold()
        if entity not in self.entries:
            raise Refused(404, {"odata.error": {"code": "8", "message": {"value": "no such entity"}}})
        if "$filter" in query:
            self.refuse("cannot compare")
        if query.get("$orderby") != "Ref_Key":
            self.refuse("in no order no page follows another")
        # By a key it sorts as people see what that leads to.
        entries = sorted(self.entries[entity].values(), key=lambda entry: (entry.get("Description", ""), entry["Ref_Key"]))
        entries = [entry for entry in entries if entry["Ref_Key"] not in self.refuses.get("hidden", [])]
        skip, top = int(query.get("$skip", 0)), int(query.get("$top", 1 << 30))
        if skip > self.refuses.get("beyond", skip):
            self.counts["refused"] += 1
            raise Refused(503, {"odata.error": {"code": "-1"}})
        self.counts["begun"] += (skip, top) == (0, 20)
        page = [self.taken(entry, query) for entry in [*entries, *self.keyless][skip:skip + top]]
        self.counts["pages"] += 1
        if any(entry.get("Ref_Key") in self.refuses.get("bad", []) for entry in page):
            self.break_down()
        if self.is_tight and len(page) > 5:
            # It has begun to answer when it finds that it has no room.
            self.counts["no_disk"] += 1
            answer = stand_in.json.dumps({"value": page}, ensure_ascii=False).encode()
            return lambda: broken(answer[:len(answer) // 2] + b'{"odata.error":{"code":"500"}}')
        if len(page) > 1 and len(stand_in.json.dumps(page)) > PAGE_BYTES:
            self.counts["no_disk"] += 1
            raise Refused(500, {"odata.error": {"code": "-1", "message": {"value": "No space left on device"}}})
        return {"value": page}

    def message(self, query):
        point = re.search(r"ExchangePlan_Tributary\(guid'([0-9a-f-]{36})'\)'$", query.get("DataExchangePoint", ""))
        if not point or point[1] != self.node:
            self.refuse("no node to exchange with")
        return int(query["MessageNo"])

    def select(self, query):
        number = self.message(query)
        if self.refuses.get("messages"):
            self.counts["refused"] += 1
            raise Refused(503, {"odata.error": {"code": "-1"}})
        self.counts["selects"] += 1
        fault, self.fault = self.fault, None
        if fault and fault["what"] == "lost":
            self.fault, fault = fault, None
        rows = []
        for (entity, key), _ in list(self.registered.items()):
            self.registered[entity, key] = number
            entry = self.entries[entity].get(key)
            rows.append({"odata.type": f"StandardODATA.{entity}", **entry} if entry else
                        {"odata.type": "StandardODATA.ObjectDeletion", "Ref_Key": key, "Ref_Type": f"StandardODATA.{entity}"})
        rows += self.keyless if rows else []
        self.whole = None
        answer = stand_in.json.dumps({"value": rows}, ensure_ascii=False).encode()
        if fault and fault["what"] == "half":
            return lambda: broken(answer[:len(answer) // 2] + b'{"odata.error":{"code":"500"}}')
        if fault and fault["what"] == "cut":
            return lambda: cut(answer[:len(answer) // 2])
        self.whole = number
        if fault and fault["what"] == "large":
            return lambda: large(answer, fault["bytes"])
        return {"value": rows}

    def notify(self, query):
        number = self.message(query)
        self.counts["notifies"] += 1
        if number != self.whole:
            self.counts["broken"] += 1
        self.registered = {place: handed for place, handed in self.registered.items() if handed is None or handed > number}
        self.received = number
        if self.fault and self.fault["what"] == "lost":
            self.fault = None
            # It is done, and nobody hears of it.
            return lambda: cut(b"")
        return {}


def broken(answer):
    yield answer


def cut(answer):
    yield answer
    raise EOFError


def large(answer, size):
    """The message as one of so many bytes: entries of a class that nobody asked for stand before the others."""
    filler = stand_in.json.dumps({"odata.type": "StandardODATA.Catalog_Files", "Ref_Key": str(uuid.UUID(int=1)), "Content": "x" * 500_000}).encode()
    yield b'{"value":['
    for _ in range(size // len(filler)):
        yield filler + b","
    rows = answer[len(b'{"value": ['):-len(b"]}")]
    yield (rows or filler) + b"]}"


if __name__ == "__main__":
    stand_in.run(Base())
