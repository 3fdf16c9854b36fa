"""Reference documents whose every line tries the feed: what is refused, what is absent, who has a number.

Shape: `unit` makes the few lines that concern one number, in order, each marked for people.ndjson or changes.ndjson, and
the events that name the number afterwards, so that the smallest difference of reading shows in the enriched records.

Invariants: a unit has a number and ids of its own, so that units do not hide each other; the hot units alone share theirs.
"""
from datetime import date, timedelta

from hostile_events import around
from hostile_json import GRAMMAR, Draft, Pairs, Raw, nest, objects, pairs, quoted

FIRST_NUMBER = 1000
KINDS = {"student": "BITRIX_USER_ID", "employee": "ID_DECANAT"}
# Ids in an order that code points, UTF-16, UTF-8 and alphabets do not all agree upon.
LEADS = ("", "0", "10", "9", "A", "Z", "_", "a", "z", "é", "e\u0301", "Ж", "ж", "ё", "\ud7ff", "\ue000", "\uff01", "\ufffd",
    "\U00010000", "\U0001f600", "\U0010ffff", "\u0000", "\u0001",
         "\t", " ", "\"", "\\", "/", "\x7f", "\u0080", "\u2028", "\ufeff", "-", "ß", "ss", "\u00a0", "ab", "aB")

TEXTS = (("PERSONAL", "fullname"), ("PERSONAL", "lastname"), ("PERSONAL", "name"), ("PERSONAL", "surname"), ("PERSONAL", "sex"),
    ("PERSONAL", "WORK_POSITION"), ("EDUCATION", 0, "edu_qualification"),
         ("EDUCATION", 0, "department", "short_title"), ("EDUCATION", 0, "specialization", "title"), ("WORK", 0, "job_title"),
         ("WORK", 0, "department", "FACULTY_NAME_DECANAT"),
         ("WORK", 0, "department", "title"))
NUMBERS = (("EDUCATION", 0, "edu_year"), ("EDUCATION", 0, "edu_course"))
BRANCHES = (("PERSONAL",), ("EDUCATION",), ("WORK",), ("EDUCATION", 0), ("WORK", 0), ("EDUCATION", 0, "department"),
    ("EDUCATION", 0, "specialization"), ("WORK", 0, "department"))

ODD_TEXT = [Raw(t) for t in (b"null", b"7", b"0", b"-0", b"1.5", b"1e999999", b"true", b"false", b"[]", b"{}", b'["x"]',
    b'{"a":"b"}', b'""', b'" "', b'"  "', b'"\\t"', b'"\\n"', b'"\\r\\n"',
                             b'"\\u0000"', b'"\\u0001\\u001f\\u007f\\u0080"', b'"\\"\\\\\\/\\b\\f"', b'"\\u2028\\u2029"',
                             b'"\xe2\x80\xa8"', b'"\x7f"', b'"\\ud83d\\ude00"', b'"\xf0\x9f\x98\x80"',
                             b'"\\uFFFF\\ufffe\\ufdd0"', b'"\\ufeffx"', b'"e\\u0301"', b'"\xc3\xa9"', b'" x "', b'"null"',
                             b'"\\u0000x"', b'"x\\u0000"', b'"\\ud800"', b'"\\udc00x"', b'"x\\ud83d"',
                             b'"\\ude00\\ud83d"', b'"\\ud83d\\ud83d\\ude00"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xff"',
                             b'"\x1f"', b'"\x00"', b'"\t"', b'"\\x41"', b'"\\u12"', b"'x'", b"NaN",
                             b"-Infinity", b'"</script>&<>"', b'"\\\\N"', b'"\\\\u0041"', b'"\'"', b'"a,b;c\\td"', b"9" * 30,
                             b"01")]
ODD_BRANCH = [Raw(t) for t in (b"null", b'""', b'"x"', b"7", b"true", b"[]", b"{}", b"[[]]", b"[{}]", b"[null]", b'[""]',
    b'["x"]', b"[7]", b"[[{}]]", b'{"0":{}}', b"[null,{}]", b"NaN", b'"\\ud800"')]
BIRTHS = ("2004-02-29T23:59:59Z 2004-02-29T00:00:00Z 2000-02-29T12:00:00Z 1900-02-29T00:00:00Z 2003-02-29T00:00:00Z "
          "2004-02-30T00:00:00Z 1900-02-28T00:00:00Z 2031-01-01T00:00:00Z 0001-01-01T00:00:00Z 0000-01-01T00:00:00Z "
          "9999-12-31T23:59:59Z 10000-01-01T00:00:00Z 2004-2-03T00:00:00Z 2004-02-3T00:00:00Z 2004-02-03 "
          "2004-02-03T00:00:00 2004-02-03T00:00:00z 2004-02-03t00:00:00Z 2004-02-03T00:00Z 2004-02-03T00:00:00+00:00 "
          "2004-02-03T00:00:00.0Z 2004-02-03T00:00:00.000Z 2004-02-03T00:00:60Z 2004-02-03T00:00:61Z 2004-12-31T23:59:60Z "
          "2004-02-03T00:60:00Z 2004-02-03T24:00:00Z 2004-02-03T25:00:00Z 2004-02-03T23:59:59Z 2004-00-03T00:00:00Z "
          "2004-13-03T00:00:00Z 2004-02-00T00:00:00Z 2004-04-31T00:00:00Z ٢٠٠٤-٠٢-٠٣T00:00:00Z 2004-02-03T00:00:0０Z "
          "2004-02-03T0:00:00Z -004-02-03T00:00:00Z +2004-02-03T00:00:00Z 2004-02-03T00:00:00ZZ 2004-02-03_00:00:00Z "
          "2004/02/03T00:00:00Z 03.02.2004 неизвестно 2004-02-03T+0:00:00Z 2004-02-03T00:00:-1Z").split() + [
              "2004-02-03 00:00:00Z", " 2004-02-03T00:00:00Z", "2004-02-03T00:00:00Z ", "2004-02-03T00:00:00Z\n",
              "2004-02-03T00:00:00Z\u0000", "", " ", "2004-02-03T 0:00:00Z", "2004- 2-03T00:00:00Z"]


class Writer:
    """Makes documents whose values all differ, so that it shows which of them counted."""

    def __init__(self, r):
        self.r, self.made = r, 0

    def source(self, kind, number):
        self.made += 1
        t, r = f"{self.made}", self.r
        personal = {"type": kind, KINDS[kind]: r.choice((number, str(number))), "fullname": f"Полное имя {t}",
            "lastname": f"Фамилия {t}", "name": f"Имя {t}", "surname": f"Отчество {t}",
                    "sex": r.choice(("Мужской", "Женский")),
                    "birthdate": f"{1950 + self.made % 60}-{1 + self.made % 12:02d}-{1 + self.made % 28:02d}T00:00:00Z"}
        if kind == "student":
            return pairs({"PERSONAL": personal, "EDUCATION": [{"edu_year": r.choice((self.made % 65536,
                str(self.made % 65536))), "edu_qualification": f"ступень {t}",
                                                               "edu_course": r.choice((self.made % 256, str(self.made % 256))),
                                                               "department": {"short_title": f"ГР-{t}"},
                                                               "specialization": {"title": f"Направление {t}"}}]})
        personal["WORK_POSITION"] = f"запасная должность {t}"
        return pairs({"PERSONAL": personal, "WORK": [{"job_title": f"должность {t}",
            "department": {"FACULTY_NAME_DECANAT": f"Факультет {t}", "title": f"Кафедра {t}"}}]})

    def document(self, name, source):
        tree = Pairs([["_id", name], ["_source", source]])
        if self.r.random() < 0.5:
            tree.insert(0, ["op", "index"])
        if self.r.random() < 0.3:
            self.r.shuffle(tree)
        return Draft(tree)

    def delete(self, name):
        return Draft(Pairs([["op", "delete"], ["_id", name]]))


def reach(tree, path):
    """The value at a path, None where the path ends early."""
    for step in path:
        if isinstance(step, int):
            tree = tree[step] if type(tree) is list and len(tree) > step else None
        else:
            n = tree.where(step) if isinstance(tree, Pairs) else None
            tree = None if n is None else tree[n][1]
    return tree


def set_at(tree, path, value):
    """Sets a value at a path whose parent exists; otherwise nothing happens."""
    parent = reach(tree, path[:-1])
    if isinstance(path[-1], int):
        if type(parent) is list and len(parent) > path[-1]:
            parent[path[-1]] = value
    elif isinstance(parent, Pairs):
        parent.put(path[-1], value)


def odd_number(r, n, high):
    """Tokens for a number that should be n, or might be taken for it."""
    t = str(n)
    if r.random() < 0.3:
        border = r.choice((high, high, high + 1, high + 1, 0, 1, -1, "-0", n))
        return Raw(r.choice((f"{border}", f'"{border}"')).encode())
    forms = (t, f'"{t}"', f'"0{t}"', f'"{t:0>20}"', f'"{t:0>21}"', f"0{t}", f"{t}.0", f'"{t}.0"', f"{t}e0", f'"{t}e0"',
        f"{t}.5", f"{t}0e-1", f"-{t}", f'"-{t}"', f'"+{t}"', f'" {t}"', f'"{t} "', f'"{t}\\n"',
             f'"{t}\\u0000"', f'"{t[:-1]}\\u003{t[-1]}"', f'"{t[:-1]}\\u066{t[-1]}"', f'"\uff10{t}"', f"[{t}]", f'["{t}"]',
             f'{{"0":{t}}}', str(n + high + 1), f'"{n + high + 1}"', str(n + 2**64), f'"{n + 2**64}"', f'"{n + 10**20}"',
             "true", "false", "null", '""', '" "', "0", '"0"', '"000"', "-0", '"-0"', "-1", '"-1"', str(high), f'"{high}"',
             str(high + 1), f'"{high + 1}"', "1.0", "1e2", "1", '"007"', "18446744073709551615",
             "18446744073709551616", "9" * 20, "9" * 30, '"' + "9" * 20 + '"', "1e999999", "NaN", "٣", '"٣"',
             '"' + "0" * 19 + '7"', '"' + "0" * 20 + '7"', "{}", "[]", "9" * 5000, f'"{t}\\ud800"')
    return Raw(r.choice(forms).encode())


class Units:
    """Makes units, each a list of ("people" or "changes", line) in order, and the events that show them."""

    def __init__(self, r):
        self.r, self.write = r, Writer(r)
        self.shapes = (self.value, self.value, self.value, self.value, self.birth, self.birth, self.birth, self.refusal,
            self.refusal, self.refusal, self.refusal, self.claim, self.claim, self.contest, self.contest, self.removal,
                       self.type, self.twice, self.twice, self.structure)

    def unit(self, number):
        """(lines, events) of a unit of its own."""
        drafts, events = self.r.choice(self.shapes)(number, self.name(number), self.r.choice(list(KINDS)))
        return self._lines(drafts), events or [self._event(number)]

    def hot(self, number, first):
        """Lines that concern one of the numbers most events name; the first time, good documents."""
        if first:
            return [("people", self.write.document(f"{kind[0]}{number}", self.write.source(kind,
                number)).spell(self.r)) for kind in KINDS]
        kind = self.r.choice(list(KINDS))
        shape = self.r.choice((self.value, self.birth, self.refusal, self.removal, self.twice, self.structure))
        return self._lines(shape(number, f"{kind[0]}{number}", kind)[0])

    def name(self, number):
        return self.r.choice(LEADS) + f"d{number}" if self.r.random() < 0.4 else f"d{number}"

    def _event(self, number):
        return {"STUDENT_ID": number, "MARKED_BY": number, "MARKED_BY_ROLE": self.r.choice((2, 2, 2, 3, 3, 3, 1))}

    def _lines(self, drafts):
        """Spells a unit: its first lines are people, the others changes, which bear an `after` that says nothing."""
        changes_from, out = self.r.choice((0, 1, 1, 1, len(drafts))), []
        for n, d in enumerate(drafts):
            if n >= changes_from and isinstance(d.tree, Pairs) and self.r.random() < 0.8:
                d.tree.insert(self.r.choice((0, 0, len(d.tree))), ["after", Raw(self.r.choice((
                    b"0", b"5", b"100", b"-1", b"99999999999999999999", b'"7"', b'"x"', b"null", b"1.5", b"[]", b"{}",
                    b"1e999999", b"true", b"-0", b"18446744073709551616", b'""')))])
            if self.r.random() < 0.1:
                d.escaped = self.r.choice((0.2, 1.0))
            out.append(("changes" if n >= changes_from else "people", d.spell(self.r)))
        return out

    def _good(self, name, kind, number):
        return self.write.document(name, self.write.source(kind, number))

    def _before(self, name, kind, number):
        """A document that stood before, or none."""
        return [self._good(name, kind, number)] if self.r.random() < 0.6 else []

    # Shapes: (number, name, kind) -> drafts in order, events or None.

    def value(self, number, name, kind):
        """Odd values where texts and numbers are expected."""
        before, source = self._before(name, kind, number), self.write.source(kind, number)
        for _ in range(self.r.choice((1, 1, 2))):
            if self.r.random() < 0.5 and reach(source, NUMBERS[0]) is not None:
                path = self.r.choice(NUMBERS)
                high = 255 if path[-1] == "edu_course" else 65535
                set_at(source, path, odd_number(self.r, 1 + number % high, high))
            else:
                set_at(source, self.r.choice([p for p in TEXTS if reach(source, p) is not None]), self.r.choice(ODD_TEXT))
        return before + [self.write.document(name, source)], None

    def birth(self, number, name, kind):
        """Odd birth dates; good ones with events about the birthday."""
        source, r = self.write.source(kind, number), self.r
        if r.random() < 0.5:
            token = r.choice(BIRTHS) if r.random() < 0.85 else r.choice(ODD_TEXT)
            set_at(source, ("PERSONAL", "birthdate"), token)
            days = [date(r.choice((2015, 2024, 2025, 2031, 2054, 2154 - 5)), r.choice((2, 3)), r.choice((1, 2, 3, 28)))]
            events = [self._event(number) | {"DATE_CREATE": f"{days[0]} 00:00:00"}]
        else:
            born = r.choice((date(2004, 2, 29), date(2000, 2, 29), date(1864, 2, 29), date(2004, 3, 1), date(2004, 12, 31),
                date(2005, 1, 1), date(2020, 2, 29),
                             date(r.choice((1864, 1865, 1866, 1874, 1900, 1998, 1999, 2015, 2015, 2029, 2030, 2030)), 1,
                                 1) + timedelta(days=r.randrange(364))))
            set_at(source, ("PERSONAL", "birthdate"), f"{born}T{r.choice(('00:00:00', '23:59:59', '21:00:00'))}Z")
            events = [self._event(number) | {"DATE_CREATE": around(r, born)} for _ in range(2)]
            if (born.month, born.day) == (2, 29):
                events += [self._event(number) | {"DATE_CREATE": f"{r.choice((2023, 2024, 2100))}-{day} 23:59:59"} for day in ("02-28", "03-01")]
        return [self.write.document(name, source)], events

    def refusal(self, number, name, kind):
        """A line that may be refused, after one that is known: what was known stands."""
        r, before, d = self.r, self._before(name, kind, number), self._good(name, kind, number)
        attack = r.choice((self._grammar, self._grammar, self._grammar, self._grammar, self._id, self._op, self._op, self._body,
            self._half, self._half, self._deep, self._top))
        attack(d, name, number)
        return before + [d], None

    def _grammar(self, d, name, number):
        self.r.choice(GRAMMAR)(self.r, d)

    def _id(self, d, name, number):
        """An _id that is no text, or the same one in escapes."""
        r = self.r
        d.tree.drop("_id")
        odd = r.choice((b"null", b'""', b"7", b"true", b"[]", b'["x"]', b"{}", b'"\\ud800"', b'"\\u0000"', b'" "', None,
            quoted(r, name, 1.0), quoted(r, name, 1.0), quoted(r, name, 0.3),
                        quoted(r, name, 1.0)[:-1] + b'\\udc00"', quoted(r, name, 0)[:-1] + b'\\u0000"',
                        quoted(r, name, 0)[:-1] + b' "', b"%d" % number))
        if odd is not None:
            d.tree.append([r.choice(("_id", "_id", "_id", "_id", "_ID", "id", Raw(b'"\\u005fid"'))), Raw(odd)])
        if r.random() < 0.3:
            d.tree.insert(r.randint(0, len(d.tree)), [r.choice(("_id", Raw(b'"_\\u0069d"'))), name])

    def _op(self, d, name, number):
        r = self.r
        if r.random() < 0.7:
            d.tree.drop("op")
        if r.random() < 0.3:
            d.tree.drop("_source")
        token = Raw(r.choice((b"null", b'"index"', b'"delete"', b'"update"', b'"create"', b'""', b'"Index"', b'"DELETE"',
            b'"delete "', b"0", b"true", b"[]", b'["index"]', b"{}", b'"\\u0064elete"', b'"inde\\u0078"',
                              b'"\\u0069ndex"', b'"delete\\u0000"', b'"\\ud800"', b'"del\\u0065te"')))
        d.tree.insert(r.randint(0, len(d.tree)), [r.choice(("op", "op", "op", Raw(b'"\\u006fp"'), "Op", "OP", "op ")), token])

    def _body(self, d, name, number):
        """_source is no object, or there is none, or it stands elsewhere."""
        r, n = self.r, d.tree.where("_source")
        body = d.tree[n][1]
        what = r.randrange(8)
        if what == 0:
            d.tree.drop("_source")
        elif what == 1:
            d.tree[n][0] = r.choice(("source", "_Source", "_source ", "doc", "_SOURCE"))
        elif what == 2:
            d.tree[n][0] = Raw(quoted(r, "_source", 0.5))
        elif what == 3:
            d.tree[n][1] = [body]
        elif what == 4:
            d.tree.insert(r.choice((n, n + 1)), ["_source", Raw(r.choice((b"null", b"[]", b"{}", b"7", b'""')))])
        else:
            d.tree[n][1] = Raw(r.choice((b"null", b"null", b"[]", b"[]", b"{}", b'""', b'"x"', b"7", b"true", b"[{}]", b'"{}"',
                b'{"PERSONAL":{}}', b'{"PERSONAL":null}', b'{"":{}}')))

    def _half(self, d, name, number):
        """Half a surrogate pair: anywhere it is refused, but not where a later value takes its place."""
        r = self.r
        place, _ = r.choice(list(objects(d.tree)))
        half = Raw(r.choice((b'"\\ud800"', b'"x\\udfffy"', b'"\\ude00\\ud83d"', b'["\\ud800"]', b'{"\\ud800":1}',
            b'{"a":{"b":["\\udc00"]}}', b'"\\ud83d\\\\ude00"', b'"\\ud83d\\ude00"', b'"\\\\ud800"')))
        what = r.randrange(4)
        if what == 0:
            place.insert(r.randint(0, len(place)), [r.choice(("n", "after", "", Raw(b'"\\ud800"'), Raw(b'"\\\\ud800"'))), half])
        elif what == 1 and place:
            n = r.randrange(len(place))
            place.insert(n, [place[n][0], half])       # overwritten
        elif what == 2 and place:
            n = r.randrange(len(place))
            place.insert(n + 1, [place[n][0], half])   # overwrites
        else:
            place.insert(0, [Raw(b'"k\\udc00"'), 1])
            if r.random() < 0.5:
                place.append([Raw(b'"k\\uDC00"'), 2])

    def _deep(self, d, name, number):
        """Depth on the border, inside the document; now and then under a key that is overwritten."""
        r = self.r
        place, base = r.choice(list(objects(d.tree)))
        levels = r.choice((62, 63, 64, 65, 66, 1000)) - base
        place.insert(r.randint(0, len(place)), ["deep", Raw(nest(levels, r.randrange(3), r.choice((b"", b'"[{"',
            b'"\\"[["'))))])
        if r.random() < 0.3:
            place.append(["deep", None])

    def _top(self, d, name, number):
        """Another top level, or hardly any."""
        r, kind = self.r, self.r.randrange(6)
        if kind == 0:
            d.tree = [d.tree]
        elif kind == 1:
            d.tree = Raw(r.choice((b"", b" ", b"\r", b"null", b"7", b'"x"', b"true", b"[]", b"{}", b"[[]]", b'"_id"', b"NaN")))
        elif kind == 2:
            d.tree = Pairs([["doc", d.tree]])
        elif kind == 3:  # far longer than an event may be; a document may
            if r.random() < 0.25:
                d.late.append(lambda line: line[:-1] + b" " * 2**20 + line[-1:])
        else:
            d.tree.insert(r.randint(0, len(d.tree)), [r.choice(("_index", "_version", "_type", "_seq_no", "", "_ID",
                "PERSONAL")), r.choice((1, None, "x", Pairs()))])

    def claim(self, number, name, kind):
        """The number itself is oddly written."""
        source = self.write.source(kind, number)
        path = ("PERSONAL", KINDS[kind])
        fixed = self.r.random() < 0.15
        token = Raw(self.r.choice((b"2147483647", b'"2147483647"', b"2147483648", b"4294967295", b'"4294967295"', b"4294967296",
            b'"007"', b"0", b'"0"', b"-1", b"1.0", b"1e2", b'"00000000000000000007"'))) if fixed \
            else odd_number(self.r, number, 2**32 - 1)
        set_at(source, path, token)
        if self.r.random() < 0.2:  # the other kind's number says nothing
            set_at(source, ("PERSONAL", KINDS["employee" if kind == "student" else "student"]), number)
        events = [self._event(number)]
        if fixed:
            events += [self._event(n) | {"MARKED_BY": m, "MARKED_BY_ROLE": 2} for n,
                m in ((2**31 - 1, 2**32 - 1), (7, 0), (100, 1), (1, 100))]
        return self._before(name, kind, number) + [self.write.document(name, source)], events

    def contest(self, number, name, kind):
        """Two or three documents claim one number: the smallest _id has it, until it is gone."""
        r = self.r
        names = [lead + f"d{number}" for lead in r.sample(LEADS, r.choice((2, 2, 3)))]
        drafts = []
        for n in names:
            source = self.write.source(kind, number)
            set_at(source, ("PERSONAL", KINDS[kind]), r.choice((number, str(number), f"00{number}")))
            drafts.append(self.write.document(n, source))
        x = r.random()
        if x < 0.3:
            drafts.append(self.write.delete(r.choice(names)))
        elif x < 0.6:  # one of them lets go, or becomes another kind
            source = self.write.source(kind, number)
            set_at(source, r.choice((("PERSONAL", "type"), ("PERSONAL", KINDS[kind]), ("PERSONAL",))),
                Raw(r.choice((b"null", b'"x"', b"0", b"[]", b'"employee"', b'"student"'))))
            drafts.append(self.write.document(r.choice(names), source))
        return drafts, None

    def removal(self, number, name, kind):
        """Deletes: of the known, of the unknown, oddly written, and followed by a return."""
        r, d = self.r, self.write.delete(r_name := self.r.choice((name, name, name, name + " ", name.upper())))
        x = r.random()
        if x < 0.2:
            d.tree.append(["_source", r.choice((None, Pairs(), 7, "x"))])
        elif x < 0.4:
            d.tree.insert(r.choice((0, 2)), ["op", r.choice(("index", "delete", None, 1))])
        elif x < 0.5:
            d.tree.append(["_source", self.write.source(kind, number)])
        elif x < 0.6:
            d.tree.put("_id", Raw(quoted(r, r_name, 1.0)))
        elif x < 0.8:
            self._grammar(d, name, number)
        back = [self._good(name, kind, number)] if r.random() < 0.2 else []
        return [self._good(name, kind, number), d] + back, None

    def type(self, number, name, kind):
        """Only `student` and `employee` count, and each by its own number."""
        source = self.write.source(kind, number)
        personal, other = reach(source, ("PERSONAL",)), "employee" if kind == "student" else "student"
        personal.put(KINDS[other], number)
        token = Raw(self.r.choice((b'"student"', b'"employee"', b'"Student"', b'"STUDENT"', b'"student "', b'" student"',
            b'"students"', b'"teacher"', b'""', b"null", b"1", b"true", b'["student"]', b'{"student":1}',
                                   b'"\\u0073tudent"', b'"employe\\u0065"', b'"student\\u0000"', b'"student\\n"')))
        if self.r.random() < 0.3:
            personal.insert(self.r.choice((0, len(personal))), ["type", token])
        else:
            personal.put("type", token)
        return self._before(name, kind, number) + [self.write.document(name, source)], None

    def twice(self, number, name, kind):
        """A key that stands twice at some level: the last counts, whole."""
        r, before, d = self.r, self._before(name, kind, number), self._good(name, kind, number)
        for _ in range(r.choice((1, 1, 2))):
            place, _ = r.choice([o for o in objects(d.tree) if o[0]])
            n = r.randrange(len(place))
            key = place[n][0]
            if r.random() < 0.4:
                key = Raw(quoted(r, key, 1.0))
            other = r.choice((None, "x", "", 7, [], Pairs(), Pairs([["fullname", "вторая"]]),
                [Pairs([["job_title", "второе"], ["edu_course", 9]])], True, Raw(b'"\\ud800"'), Raw(b"9" * 30), Raw(b"NaN"),
                Raw(nest(r.choice((58, 60, 62, 63, 64)), 0))))
            place.insert(r.choice((0, n, n + 1, len(place))), [key, other])
        return before + [d], None

    def structure(self, number, name, kind):
        """Lists that are objects, empty lists, lists of other things, the second element instead of the first."""
        r, before, source = self.r, self._before(name, kind, number), self.write.source(kind, number)
        branch = "EDUCATION" if kind == "student" else "WORK"
        first = reach(source, (branch, 0))
        what = r.randrange(8)
        if what == 0:
            set_at(source, (branch,), first)
        elif what == 1:
            set_at(source, (branch,), r.choice(([None, first], ["", first], [Pairs(), first], [[], first], [first, Pairs()],
                [[first]], [7, first], [first, first])))
        elif what == 2:
            source.drop(branch)
        elif what == 3:
            first.drop(r.choice([k for k, _ in first]))
        elif what == 4:
            source[source.where(branch)][0] = r.choice((branch.lower(), branch + " ", Raw(quoted(r, branch, 1.0)),
                branch + "S"))
        else:
            set_at(source, r.choice([p for p in BRANCHES if reach(source, p) is not None]), r.choice(ODD_BRANCH))
        if r.random() < 0.3:
            set_at(source, ("PERSONAL", "WORK_POSITION"), r.choice(ODD_TEXT))
        return before + [self.write.document(name, source)], None
