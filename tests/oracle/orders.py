#!/usr/bin/env python3
"""What the engine must have produced of dataflows/orders.toml once it has seen everything, slow and plain; or random input for it.

    orders.py IN OUT                             IN holds events.ndjson, documents.ndjson, changes.ndjson (optional)
    orders.py --generate OUT --events N --seed S

Shape: the first writes a file a view and dead_letters.ndjson, byte for byte as the engine writes them when it is given
IN/events.ndjson under that very path. The second writes what the first reads.

Invariants: the domain is written out here by hand and nothing is read from dataflows/orders.toml, so that a spec which is
misread shows. Nothing is shared with the engine. The same arguments give the same bytes.
"""
import argparse, base64, json, pathlib, random
from datetime import date, datetime

from oracle import BIRTH, DAY, INTEGER, STAMP, UUID, age, at, not_json, parse, small, string

COLUMNS = ("EVENT_ID", "ORDER_ID", "ORDER_DATE", "STATUS", "CURRENCY", "AMOUNT", "BUYER_ID", "RECIPIENT_ID", "SKU", "PARCEL", "STEP",
           "AT", "BUYER_NAME", "BUYER_TIER", "BUYER_BALANCE", "BUYER_AGE", "BUYER_YEARS", "RECIPIENT_NAME", "RECIPIENT_CITY",
           "PRODUCT_TITLE", "CATEGORY", "WEIGHT_G")
ABOUT_GOODS = ("ordered", "shipped", "returned", "out-for-delivery")


class Refused(Exception):
    """(reason, column): why a line is no event."""


# ------------------------------------------------------------------------------------------------------------------- events --


def is_text(v):
    """Whether a value is a string without half a surrogate pair."""
    return isinstance(v, str) and not any("\ud800" <= c <= "\udfff" for c in v)


def text(v, bytes_max):
    if not is_text(v):
        raise Refused("wrong_form")
    if len(v.encode()) > bytes_max:
        raise Refused("out_of_range")
    return v


def uuid(v):
    if not is_text(v) or not UUID.fullmatch(v):
        raise Refused("wrong_form")
    return v.lower()


def integer(v, low, high):
    if isinstance(v, str) and INTEGER.fullmatch(v):
        v = int(v)
    if isinstance(v, bool) or not isinstance(v, int):
        raise Refused("wrong_form")
    if not low <= v <= high:
        raise Refused("out_of_range")
    return v


def day(v):
    try:
        if not is_text(v) or not DAY.fullmatch(v):
            raise ValueError
        date.fromisoformat(v)
    except ValueError:
        raise Refused("wrong_form")
    return v


def moment(v):
    try:
        if not is_text(v) or not STAMP.fullmatch(v):
            raise ValueError
        whole, _, fraction = v.partition(".")
        datetime.strptime(whole, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise Refused("wrong_form")
    return f"{whole}.{fraction:0<6}"


def deeper_than(line, most):
    depth, in_string, escaped = 0, False, False
    for c in line:
        if escaped:
            escaped = False
        elif in_string and c == ord("\\"):
            escaped = True
        elif c == ord('"'):
            in_string = not in_string
        elif not in_string and c in b"[{":
            depth += 1
            if depth > most:
                return True
        elif not in_string and c in b"]}":
            depth -= 1
    return False


def read_event(line):
    if len(line) > 4096:
        raise Refused("too_long", None)
    try:
        line.decode("utf-8")
    except ValueError:
        raise Refused("not_utf8", None)
    if deeper_than(line, 8):
        raise Refused("too_deep", None)
    try:
        event = json.loads(line.decode("utf-8"), parse_constant=not_json, parse_int=small)
    except ValueError:
        raise Refused("not_json", None)
    if not isinstance(event, dict):
        raise Refused("not_object", None)
    out = {}
    for name, required, read in (
            ("EVENT_ID", True, lambda v: text(v, 32)),
            ("ORDER_ID", True, uuid),
            ("ORDER_DATE", True, day),
            ("STATUS", True, lambda v: text(v, 16)),
            ("CURRENCY", False, lambda v: text(v, 3)),
            ("AMOUNT", True, lambda v: integer(v, -1_000_000, 1_000_000)),
            ("BUYER_ID", True, uuid),
            ("RECIPIENT_ID", False, uuid),
            ("SKU", False, lambda v: text(v, 24)),
            ("PARCEL", False, lambda v: text(v, 16)),
            ("STEP", False, lambda v: integer(v, -1, 99)),
            ("AT", True, moment)):
        value = event.get(name)
        if value is None and required:
            raise Refused("missing", name)
        try:
            out[name] = None if value is None else read(value)
        except Refused as refused:
            raise Refused(refused.args[0], name)
    return out


def read_events(path):
    """The events that stand, by key, and the dead letters in the order of their lines."""
    events, letters = {}, []
    for n, line in enumerate(open(path, "rb")):
        line = line.removesuffix(b"\n")
        try:
            event = read_event(line)
            if events.setdefault(event["EVENT_ID"], event) != event:
                raise Refused("key_taken", None)
        except Refused as refused:
            reason, column = refused.args
            letter = {"file": str(path), "line": n, "reason": reason, "column": column, "bytes": base64.b64encode(line).decode()}
            letters.append({k: v for k, v in letter.items() if v is not None})
    return events, letters


# ---------------------------------------------------------------------------------------------------------------- documents --


def read_documents(folder):
    documents = {}
    for name in ("documents.ndjson", "changes.ndjson"):
        for line in open(folder / name, "rb") if (folder / name).exists() else ():
            try:
                d = parse(line)
                json.dumps(d, ensure_ascii=False).encode()  # half a surrogate pair is no text
                op = d.get("op", "index")
                if not (isinstance(d["_id"], str) and d["_id"] and (op == "delete" or op == "index" and isinstance(d["_source"], dict))):
                    continue
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # what was known stands
            if op == "delete":
                documents.pop(d["_id"], None)
            else:
                documents[d["_id"]] = d["_source"]
    return documents


def whole(v, low, high):
    try:
        return integer(v, low, high)
    except Refused:
        return None


def day_of(v):
    """The day of a moment of a document, as it is written."""
    try:
        return datetime.strptime(v, "%Y-%m-%dT%H:%M:%SZ").date() if isinstance(v, str) and BIRTH.fullmatch(v) else None
    except ValueError:
        return None


def first(*values):
    return next((v for v in values if v is not None), None)


def customer_key(d):
    key = at(d, "profile", "uuid")
    return key.lower() if isinstance(key, str) and UUID.fullmatch(key) else None


def product_key(d):
    key = string(d, "sku")
    return key if key is not None and len(key.encode()) <= 24 else None


def by_key(documents, kind, key_of):
    """Documents of one kind by their key; where two claim one, the smallest _id has it."""
    out = {}
    for i in sorted(documents):
        key = key_of(documents[i]) if string(documents[i], "kind") == kind else None
        if key is not None:
            out.setdefault(key, documents[i])
    return out


def name_of(customer):
    return first(string(customer, "profile", "display_name"), string(customer, "profile", "names", 0, "full"),
                 string(customer, "profile", "login"))


def enrich(event, customers, products):
    row = dict(event)
    buyer = customers.get(event["BUYER_ID"])
    if buyer is not None:
        row["BUYER_NAME"] = name_of(buyer)
        row["BUYER_TIER"] = string(buyer, "account", "tier")
        row["BUYER_BALANCE"] = first(whole(at(buyer, "account", "balance"), -100_000, 100_000),
                                     whole(at(buyer, "account", "history", 0, "balance"), -100_000, 100_000))
        row["BUYER_AGE"] = age(day_of(at(buyer, "profile", "born")), date.fromisoformat(event["ORDER_DATE"]))
        since = first(day_of(at(buyer, "account", "since")), day_of(at(buyer, "profile", "since")))
        years = age(since, date.fromisoformat(event["AT"][:10]))
        row["BUYER_YEARS"] = years if years is not None and years <= 100 else None
    recipient = customers.get(event["RECIPIENT_ID"])
    if recipient is not None:
        row["RECIPIENT_NAME"] = name_of(recipient)
        row["RECIPIENT_CITY"] = string(recipient, "addresses", 0, "city")
    product = products.get(event["SKU"]) if event["STATUS"] in ABOUT_GOODS else None
    if product is not None:
        row["PRODUCT_TITLE"] = first(string(product, "titles", 0, "text"), string(product, "title"))
        row["CATEGORY"] = string(product, "category", "name")
        row["WEIGHT_G"] = whole(at(product, "weight_g"), 0, 2**32 - 1)
    return row


# -------------------------------------------------------------------------------------------------------------------- views --


def place(*values):
    """Where values stand in order: an absent one lowest, text by its bytes."""
    return tuple((0,) if v is None else (1, v.encode() if isinstance(v, str) else v) for v in values)


def latest(rows, key, order):
    winners = {}
    for row in rows:
        k = place(*(row[c] for c in key))
        if k not in winners or place(*(winners[k][c] for c in order)) < place(*(row[c] for c in order)):
            winners[k] = row
    return [winners[k] for k in sorted(winners)]


def counts(rows, by, numbers):
    groups = {}
    for row in rows:
        values = [row.get(c) for c in by]
        group = groups.setdefault(place(*values), dict(zip(by, values)) | dict.fromkeys(numbers, 0))
        for name, counted in numbers.items():
            group[name] += bool(counted(row))
    return [groups[k] for k in sorted(groups)]


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            row = {c: v for c, v in row.items() if v is not None}
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def compute(source, out):
    events, letters = read_events(source / "events.ndjson")
    documents = read_documents(source)
    customers, products = by_key(documents, "customer", customer_key), by_key(documents, "product", product_key)
    enriched = [enrich(events[i], customers, products) for i in sorted(events, key=str.encode)]
    enriched = [{c: row.get(c) for c in COLUMNS} for row in enriched]
    orders = latest(enriched, ("ORDER_ID",), ("AT", "STEP", "EVENT_ID"))
    everything = lambda row: True
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in {
            "enriched": enriched,
            "latest_orders": orders,
            "latest_parcels": latest(enriched, ("ORDER_ID", "PARCEL"), ("STEP", "AT", "EVENT_ID")),
            "events_by_day": counts(enriched, ("ORDER_DATE",), {
                "EVENTS": everything, "RETURNED": lambda row: row["STATUS"] == "returned"}),
            "events_by_category": counts(enriched, ("CATEGORY", "BUYER_TIER"), {
                "EVENTS": everything, "EURO": lambda row: row["CURRENCY"] in ("EUR", "€")}),
            "orders_by_status": counts(orders, ("STATUS", "CURRENCY"), {
                "ORDERS": everything, "LOYAL": lambda row: row["BUYER_TIER"] in ("gold", "silver"),
                "TAKEN_BACK": lambda row: row["STEP"] == -1}),
            "orders_by_buyer": counts(orders, ("BUYER_BALANCE", "BUYER_AGE", "BUYER_ID"), {
                "ORDERS": everything, "EARLY": lambda row: row["ORDER_DATE"] in ("0001-01-01", "2025-03-01")}),
            "dead_letters": letters}.items():
        write(out / f"{name}.ndjson", rows)


# ----------------------------------------------------------------------------------------------------------------- generate --

# Few values, so that keys meet; each list has some that are near each other in one sense and different in another.
TEXTS = ["", " ", "a", "A", "é", "e\u0301", "я" * 8, "x" * 16, "x" * 17, "\u0000", "a\u0000b", "a\u0000", "\"\\/", "\n\t\u001f", "\u007f\u2028",
         "😀😀😀😀", "null", "0", "\ufeff", "a\u0001"]
STATUSES = ["ordered", "paid", "shipped", "returned", "out-for-delivery", "Ordered", "ordered "] + TEXTS
SKUS = ["SKU-1", "sku-1", "SKU-1 ", "SKU/ü\"\\", "\u0000", "x" * 24, "я" * 12, "x" * 25, "", "12", "012"]
CURRENCIES = ["EUR", "USD", "€", "", "eur", "RUBL", None]
NUMBERS = [0, -0, 1, -1, 99, 100, -2, 1_000_000, -1_000_000, 1_000_001, -1_000_001, "5", "005", "-5", "+5", "", "5 ", 1.0, 1e3, True, None, [], {},
           2**64, -2**63, "9" * 20, "0" * 19 + "7", "٣"]
DAYS = ["2025-03-01", "2024-02-29", "0001-01-01", "9999-12-31", "2025-02-29", "0000-01-01", "2025-3-1", "2025-03-01 ", "", 20250301, None]
TIMES = ["2025-03-01 10:00:00", "2025-03-01 10:00:00.0", "2025-03-01 10:00:00.000001", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999",
         "2025-03-01 24:00:00", "2025-03-01T10:00:00", "2025-03-01 10:00:60", "2025-03-01 10:00:00.", "2025-03-01 10:00:00.1234567", None]
MOMENTS = ["1990-02-28T23:59:59Z", "2000-02-29T00:00:00Z", "2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z", "1874-01-01T00:00:00Z",
           "2001-02-29T00:00:00Z", "1990-02-28", "1990-02-28T23:59:59+00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "", None, 5]
BALANCES = [0, -5, -100_000, 100_000, 100_001, "7", "-7", "", None, 1.5, [], True]


class Shop:
    """Makes lines that are mostly sound, and hostile in one place or another."""

    def __init__(self, r):
        self.r = r
        self.people = [self.uuid() for _ in range(6)]
        self.orders = [self.uuid() for _ in range(8)]
        self.lines = []

    def uuid(self):
        h = f"{self.r.getrandbits(128):032x}"
        return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))

    def case(self, u):
        return self.r.choice((u, u, u.upper(), u.title()))

    def pick(self, sound, any_of, hostile=0.04):
        return self.r.choice(any_of) if self.r.random() < hostile else self.r.choice(sound)

    def event(self, n):
        r = self.r
        if self.lines and r.random() < 0.08:  # delivered again, perhaps told differently
            event = json.loads(r.choice(self.lines))
            if r.random() < 0.5:
                event["AMOUNT"] = r.choice((1, "1", 2))
        else:
            ids = [f"e{n}", f"E{n}", f"{n:05}", f"é{n}", f"e\u0000{n}"]
            strange = [f"{n}".zfill(32), f"{n}".zfill(33), "", None, n, [n]]
            bad_uuid = ["", None, 7, self.people[0].replace("-", ""), "{" + self.people[0] + "}", self.people[0][:-1] + "g"]
            event = {
                "EVENT_ID": self.pick(ids, strange), "ORDER_ID": self.pick([self.case(u) for u in self.orders], bad_uuid, 0.02),
                "ORDER_DATE": self.pick(DAYS[:4], DAYS), "STATUS": self.pick(STATUSES[:5], STATUSES, 0.3),
                "CURRENCY": self.pick(["EUR", "USD", "€", None], CURRENCIES), "AMOUNT": self.pick([0, -3, "12", 1_000_000], NUMBERS),
                "BUYER_ID": self.pick([self.case(u) for u in self.people], bad_uuid, 0.02),
                "RECIPIENT_ID": self.pick([self.case(u) for u in self.people] + [None], bad_uuid, 0.02),
                "SKU": self.pick(SKUS[:7] + [None], SKUS), "PARCEL": self.pick([None, None, "", "p1", "p2"], TEXTS, 0.1),
                "STEP": self.pick([None, -1, 0, 1, "2", 99], NUMBERS), "AT": self.pick(TIMES[:5], TIMES)}
            if r.random() < 0.2:
                event = {k: v for k, v in event.items() if v is not None}
        if r.random() < 0.05:
            event["note"] = r.choice((1e300, "\ud800", {"AMOUNT": 1}, [[[[[[]]]]]], [[[[[[[]]]]]]], [[[[[[[[]]]]]]]], "[" * 9, "x" * 4000))
        line = json.dumps(event, ensure_ascii=r.random() < 0.5 or "\ud800" in event.values()).encode("utf-8")
        self.lines.append(line)
        if r.random() < 0.03:
            return r.choice((b"", b"null", b"[]", b"{", b"\xff", line[:-1], line + b"}", line + b" \r", b"\xef\xbb\xbf" + line,
                             line.replace(b"{", b'{"STATUS": "paid", ', 1), line[:-1] + b', "AMOUNT": -0}', line[:-1] + b', "STEP": NaN}'))
        return line

    def source(self):
        r = self.r
        name = lambda: self.pick(["Ann", "Bo", "Zoë", "", None], TEXTS + [5, [], {}], 0.2)
        if r.random() < 0.45:
            return {"kind": self.pick(["product"], ["Product", "", None, "customer"]), "sku": self.pick(SKUS[:7], SKUS + [None, 12], 0.1),
                    "titles": r.choice(([{"text": name()}], [], {}, None, [{}, {"text": "second"}])), "title": name(),
                    "category": self.pick([{"name": name()}, {"name": "toys"}], [{}, None, "toys"], 0.2),
                    "weight_g": self.pick([0, "0850", 2**32 - 1], BALANCES + [2**32], 0.2)}
        keys = [self.case(u) for u in self.people]
        source = {"kind": self.pick(["customer"], ["Customer", "product", None]),
                  "profile": {"uuid": self.pick(keys, ["", None, 7, "x" * 36]), "display_name": name(), "names": r.choice(([{"full": name()}], [])),
                              "login": name(), "born": r.choice(MOMENTS), "since": r.choice(MOMENTS)},
                  "account": {"tier": r.choice(("gold", "silver", "", None, "new")), "balance": r.choice(BALANCES),
                              "history": r.choice(([{"balance": r.choice(BALANCES)}], [])), "since": r.choice(MOMENTS)},
                  "addresses": r.choice(([{"city": name()}], [], {"0": {"city": "no"}}))}
        if r.random() < 0.1:
            source[r.choice(("profile", "account"))] = r.choice((None, [], "text", {}))
        return source

    def document(self, after=None):
        r = self.r
        line = {} if after is None else {"after": after}
        line["_id"] = self.pick([f"d{n}" for n in range(20)] + ["D1", "é1"], ["", None, 5])
        if after is not None and r.random() < 0.15:
            line["op"] = "delete"
        else:
            line |= {"_source": self.pick([self.source()], [None, [], "x"])}
            if after is not None:
                line["op"] = self.pick(["index"], ["update", None, 1])
        whole = json.dumps(line).encode()
        return whole if r.random() > 0.03 else r.choice((b"", b"{", whole[:-1], whole.replace(b"_id", b"id"), b"\xff" + whole))


def generate(out, events, seed):
    r = random.Random(seed)
    shop = Shop(r)
    out.mkdir(parents=True, exist_ok=True)
    after = sorted(r.randrange(-1, events + 3) for _ in range(events // 8))
    files = {"documents": [shop.document() for _ in range(16)], "changes": [shop.document(a) for a in after],
             "events": [shop.event(n) for n in range(events)]}
    for name, lines in files.items():
        (out / f"{name}.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("paths", nargs="*", type=pathlib.Path, metavar="IN OUT")
    p.add_argument("--generate", type=pathlib.Path, metavar="OUT")
    p.add_argument("--events", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    if a.generate and not a.paths:
        generate(a.generate, a.events, a.seed)
    elif not a.generate and len(a.paths) == 2:
        compute(*a.paths)
    else:
        p.error("give IN and OUT, or --generate OUT")


if __name__ == "__main__":
    main()
