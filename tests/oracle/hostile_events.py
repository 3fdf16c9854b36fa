"""Events whose every line tries the decoder: the columns on both sides of each border that README.md draws.

Shape: a `Desk` hands out event lines one at a time; it remembers what it handed out, so that later lines can say the same
in other words, or something else under the same ID.

Invariants: an event has an ID of its own unless it repeats one on purpose, so that every line shows in the outputs.
"""
import uuid
from datetime import date, datetime, timedelta

from hostile_json import GRAMMAR, Draft, Raw, into, nest, pairs, quoted

LIMITS = {"JOURNAL_ID": (0, 2**16 - 1), "STUDENT_ID": (1, 2**31 - 1), "LESSON_ID": (0, 2**64 - 1), "ATTENDANCE_MARK": (0, 5),
          "MARKED_BY": (0, 2**32 - 1), "TYPE_MARK": (0, 255), "NUMBER_CERT": (0, 255), "MARKED_BY_ROLE": (0, 3)}
OPTIONAL = ("TYPE_MARK", "NUMBER_CERT", "MARKED_BY_ROLE")
HOT = range(201, 213)  # the numbers that most events name, as students and as teachers
LINE_MAX = 2**20

DAYS = ("2025-02-29 2024-02-29 2000-02-29 1900-02-29 2100-02-29 2100-02-28 2104-02-29 2025-02-30 2025-04-31 2025-04-30 2025-06-31 2025-12-31 "
        "2025-12-32 2025-13-01 2025-00-10 2025-01-00 2025-01-32 1970-01-01 1969-12-31 2149-06-06 2149-06-07 2149-12-31 2150-01-01 0000-01-01 "
        "0001-01-01 9999-12-31 10000-01-01 2025-8-13 2025-08-1 25-08-13 +2025-08-1 -025-08-13 2025-08-013 02025-08-13 2025/08/13 2025.08.13 "
        "13.08.2025 20250813 2025-0813 2025-W33-3 2025-225 2025-08-13T00:00:00 2025-08-13Z 2025-08-13+00 2025-08-13. ２０２５-08-13 2025-08-１3 "
        "٢٠٢٥-٠٨-١٣ 2025‐08‐13 2025−08−13 x025-08-13 2025-0x-13 2025-08--1 2025-08-1_ now").split() + [
            "", " ", "2025-08-13 ", " 2025-08-13", "2025-08-13\n", "2025-08-13\r", "2025-08-13\u0000", "\n2025-08-13",
            "2025-08-13\u00a0", "2025- 8-13",
            "2025-08-13 00:00:00", "2025-08- 3"]
STAMPS = ["2025-08-13 10:00:00" + f for f in (
              "", ".", ".0", ".1", ".12", ".123", ".1234", ".12345", ".123456", ".1234567", ".000000", ".0000000", ".999999",
              ".9999995", ",123", ".12 ",
              ". 12", ".-1", ".+1", ".1e5", ".x", ".١", ".12\n", "\n", " ", "Z", "+03:00", ".123Z", ".123+03", " UTC", ":00",
              ".1.2", "\u0000", ".\u0661", ".１", "..1")]
STAMPS += ["2025-08-13" + t for t in (
               "", " ", "T10:00:00", "t10:00:00", "  10:00:00", "\t10:00:00", "\u00a010:00:00", "_10:00:00", "-10:00:00",
               "10:00:00", " 10:00", " 10:00:0",
               " 1:00:00", " 10:0:00", " 10:00:60", " 10:00:61", " 10:00:59", " 10:59:60", " 23:59:60", " 23:59:59.999999",
               " 10:60:00", " 24:00:00", " 23:00:00",
               " 25:00:00", " 00:00:00", " -1:00:00", " +1:00:00", " 10.00.00", " 10-00-00", " 100000", " 1０:00:00",
               " ١٠:00:00", " 10:00:0٠", " 10:00:00 AM",
               " 010:00:00", " 10:00: 0", " 10: 0:00", "  1:00:00", "\n10:00:00")]
STAMPS += [d + " 10:00:00" for d in DAYS] + [
    "2014-12-31 23:59:59", "2014-12-31 23:59:59.999999", "2015-01-01 00:00:00", "2015-01-01 00:00:00.000000",
    "2149-12-31 23:59:59.999999", "2149-12-31 23:59:60",
    "2150-01-01 00:00:00", "2149-06-07 00:00:00", "2016-02-29 10:00:00.5", "2015-02-29 10:00:00", "2016-12-31 23:59:60",
    "2100-02-29 00:00:00", "9999-12-31 23:59:59",
    "0000-00-00 00:00:00", "1755082800", "2025-08-13 10:00:00." + "0" * 40, "02025-08-13 10:00:00", "2025-08-13 10:00:000",
    "2015-12-31 24:00:00"]
# Of every type, for a column that takes text.
NO_TEXT = [Raw(t) for t in (b"null", b"true", b"false", b"0", b"7", b"20250813", b"1.5", b"[]", b"{}", b'["2025-08-13"]',
    b'{"a":1}', b'""', b'" "', b'"\\ud800"',
                            b"NaN", b"-0", b"9" * 30)]


def plain(r, numbers):
    """An event without fault that names someone: mostly one of the hot numbers, else one of a document under attack."""
    def someone():
        return r.choice(HOT) if r.random() < 0.85 else r.choice(numbers)
    event = {"ID": str(uuid.UUID(int=r.getrandbits(128))), "JOURNAL_ID": r.choice((0, 1, 7, 300, 65535)),
        "STUDENT_ID": someone(),
             "LESSON_ID": r.choice((0, 1, 7, 9, 2**53 + 1, 2**63, 2**64 - 1)),
             "LESSON_DATE": r.choice(("2025-02-10", "2024-02-29", "1970-01-01", "2149-06-06")),
             "ATTENDANCE_MARK": r.choice((0, 0, 1, 1, 2, 3, 4, 5)), "MARKED_BY": someone(), "DATE_CREATE": instant(r),
             "TYPE_MARK": r.choice((None, 0, 1, 255)), "NUMBER_CERT": r.choice((None, 0, 7, 255)),
             "MARKED_BY_ROLE": r.choice((None, 0, 1, 2, 2, 2, 3, 3))}
    return {k: v for k, v in event.items() if v is not None or r.random() < 0.4}


def instant(r):
    """One of few instants, so that the latest mark is often decided by role or ID; the fraction in few or many digits."""
    when = datetime(2025, 2, 28, 23, 59, 59) + timedelta(seconds=r.randrange(4))
    return when.strftime("%Y-%m-%d %H:%M:%S") + r.choice(("", ".0", ".5", ".50", ".500000", ".05", ".000001", ".999999"))


def integers(r, column):
    """Tokens for an integer column around what it takes."""
    low, high = LIMITS[column]
    n = r.choice((low, high, low - 1, high + 1, low + 1, high - 1, 7, 0, 1, -1, 2**8, 2**16, 2**31, 2**32, 2**53 + 1, 2**63 - 1,
        2**63, 2**64 - 1, 2**64, 2**64 + 7,
                  10**19, 10**20 - 1, 10**20, 10**30, -(2**63), -(2**63) - 1, 2**128 + 1, 256 + 7, 2**32 + 7))
    t = str(n)
    forms = [t, t, t, f'"{t}"', f'"{t}"', f'"{t}"', f'"{t:0>5}"', f'"{t:0>20}"', f'"{t:0>21}"', f'"0{t}"', f"0{t}", f"{t}.0",
        f"{t}.", f"{t}e0", f"{t}E0", f"{t}e-0", f"{t}.5", f'"{t}.0"',
             f'"{t}e0"', f'" {t}"', f'"{t} "', f'"{t}\\n"', f'"\\n{t}"', f'"{t}\\u0000"', f'"+{t}"', f"+{t}", f'"-{t}"',
             f"-{t}", f'"{t}_0"', f'"0x{t}"', f'"{t}\\t"', f'"{t},0"', f"[{t}]",
             f'["{t}"]', f'{{"a":{t}}}', f'"\\u003{t[-1]}"', f'"\\u0030{t}"', f'"\\u0660{t}"', f'"٠{t}"', f'"{t}０"', f'"²"',
             f'"①"', f'"Ⅷ"', f'"७"', f'"\\"{t}\\""', f"'{t}'", f'"{t}\\ud800"', f"{t}n", f"{t} 0",
             f"0.{t}e{len(t)}", f"{t}0e-1"]
    fixed = ["-0", "0", '"0"', '"-0"', "-0.0", "0.0", "0e0", '"00"', '"+0"', "true", "false", "null", '""', '" "', '"null"',
        '"true"', "[]", "{}", "NaN", "Infinity", "-Infinity", '"NaN"', "1e2",
             "1E+2", "100e-2", "1e999999", "-1e999999", "1e-999999", '"1e2"', '"' + "0" * 20 + '"', '"' + "0" * 21 + '"',
             '"' + "0" * 19 + '3"', '"' + "0" * 20 + '3"', '"' + "0" * 400 + '1"', "9" * 30, '"' + "9" * 30 + '"',
             "18446744073709551615", "18446744073709551616", '"18446744073709551615"', '"18446744073709551616"',
             '"018446744073709551615"', "99999999999999999999", '"99999999999999999999"',
             "9" * 5000, "1" + "0" * 5000, "-" + "9" * 30, "9007199254740993", '"9007199254740993"', "1.0000000000000001",
             "0.99999999999999999999", '"\\u0031"', '"\\u00b9"', '"\u00a07"', '"7\u200b"']
    return Raw(r.choice(forms if r.random() < 0.6 else fixed).encode())


def uuids(r, text):
    """Tokens for an ID, the same digits written in many ways."""
    bare, cut = text.replace("-", ""), r.randrange(36)
    return r.choice((text.upper(), text.title(), "{" + text + "}", bare, "urn:uuid:" + text, "g" + text[1:], text[:-1] + "g",
        text[:-1], text + "0", text[:cut] + text[cut + 1:], text + "\n",
                     "\n" + text, text + " ", " " + text, text + "\u0000", text.replace("-", "‐"), text.replace("-", "_"),
                     text.replace("-", " "), text.replace("-", "--", 1), text[:9] + "-" + text[9:-1],
                     "-" + text[:-1], text[1:9] + text[0] + text[9:], text.replace(text[0], "０", 1),
                     text.replace(text[0], "٠", 1), text.replace(text[0], "ａ", 1), text.replace(text[0], "é", 1),
                     bare[:8] + "-" + bare[8:], bare + "----",
                     "0x" + text[2:], "+" + text[1:], text.upper()[:18] + text[18:], "00000000-0000-0000-0000-000000000000",
                     "ffffffff-ffff-ffff-ffff-ffffffffffff", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "", " ",
                     text[:23] + bare[20:] + "-", text[:23] + "/" + text[24:], text[:35] + "@", text[:35] + "`",
                     text[:35] + "G", text[:35] + ":", "K" + text[1:], "\u212a" + text[1:], *NO_TEXT[:10]))


class Desk:
    """Hands out event lines."""

    def __init__(self, r, numbers):
        self.r, self.numbers, self.said, self.sizes = r, numbers, [], []
        self.attacks = (self.number, self.number, self.number, self.number, self.identity, self.day, self.stamp, self.stamp,
            self.twice, self.twice, self.twice,
                        self.gone, self.other_key, self.spelled, self.again, self.again, self.again, self.length) + tuple(
                            lambda d, attack=attack: attack(r, d) for attack in GRAMMAR)

    def attack(self):
        """One line that tries one rule, or two at once."""
        event = plain(self.r, self.numbers)
        self.said.append(event)
        d = self._draft(event)
        for _ in range(1 if self.r.random() < 0.85 else 2):
            self.r.choice(self.attacks)(d)
        return d.spell(self.r)

    def probe(self, event):
        """A line that must stand and shows what became of a document; odd only in its spelling."""
        d = self._draft(plain(self.r, self.numbers) | event)
        if self.r.random() < 0.3:
            d.gap = lambda r: r.choice((b"", b" ", b"\t", b"\r"))
        d.escaped = self.r.choice((0, 0, 0.1))
        return d.spell(self.r)

    def _draft(self, event):
        tree = pairs(event)
        self.r.shuffle(tree)
        for pair in tree:
            if pair[0] in LIMITS and pair[1] is not None and self.r.random() < 0.15:
                pair[1] = str(pair[1]).zfill(self.r.choice((0, 0, 3, 20)))
        return Draft(tree)

    # One rule each.

    def number(self, d):
        column = self.r.choice(list(LIMITS))
        d.tree.put(column, integers(self.r, column))

    def identity(self, d):
        d.tree.put("ID", uuids(self.r, self.said[-1]["ID"]))

    def day(self, d):
        d.tree.put("LESSON_DATE", self.r.choice(DAYS) if self.r.random() < 0.9 else self.r.choice(NO_TEXT))

    def stamp(self, d):
        d.tree.put("DATE_CREATE", self.r.choice(STAMPS) if self.r.random() < 0.9 else self.r.choice(NO_TEXT))

    def twice(self, d):
        """A column two or three times; the last counts, whatever the first ones are, as long as they are JSON."""
        r = self.r
        for _ in range(r.choice((1, 1, 2))):
            key, value = r.choice(d.tree)
            odd = self._odd(key) if isinstance(key, str) else 1
            if r.random() < 0.5:
                key = Raw(quoted(r, key, r.choice((0.2, 1.0))))
            at = r.randint(0, len(d.tree)) if r.random() < 0.7 else r.choice((0, len(d.tree)))
            d.tree.insert(at, [key, odd])

    def _odd(self, key):
        r, x = self.r, self.r.random()
        if x < 0.25:
            return plain(r, self.numbers).get(key, 1)
        if x < 0.4:
            return Raw(r.choice((b'"\\ud800"', b"9" * 30, b"1e999999", b"null", b"NaN", b"01", b'"\x01"', b'"\xff"', b'"\\x"',
                nest(62, 0), nest(63, 0), nest(64, 0), nest(63, 1), nest(64, 1), nest(200, 2))))
        if key in LIMITS:
            return integers(r, key)
        if key == "ID":
            return uuids(r, str(uuid.UUID(int=r.getrandbits(128))))
        return r.choice(DAYS if key == "LESSON_DATE" else STAMPS)

    def gone(self, d):
        """A column is missing or null; for three of them that is well."""
        column = self.r.choice(("ID", "LESSON_DATE", "DATE_CREATE", *LIMITS, *OPTIONAL))
        d.tree.drop(column)
        if self.r.random() < 0.5:
            d.tree.append([column, self.r.choice((None, None, "", Raw(b"nul"), Raw(b"NULL"), "null"))])

    def other_key(self, d):
        """A key that is nearly a column, in its stead or beside it."""
        column = self.r.choice(("ID", "LESSON_DATE", "DATE_CREATE", *LIMITS, *OPTIONAL))
        near = self.r.choice((column.lower(), column.title(), column + " ", " " + column, column + "\u0000", column[:-1],
            column.replace("_", "-"), "\ufeff" + column, column.replace("I", "İ"), column.replace("A", "А"),
                              column + "\u0301", Raw(b'"' + column.encode() + b'\\ud800"'), column.replace("T", "Ｔ")))
        n = d.tree.where(column)
        if n is None or self.r.random() < 0.5:
            d.tree.insert(self.r.randint(0, len(d.tree)), [near, self._odd(column)])
        else:
            d.tree[n][0] = near

    def spelled(self, d):
        """Values of columns in escapes, and escapes that make them something else."""
        n = self.r.randrange(len(d.tree))
        key, value = d.tree[n]
        if value is None:
            return
        token = quoted(self.r, value if isinstance(value, Raw) else str(value), 1.0)
        if self.r.random() < 0.5:
            more = self.r.choice((b"\\n", b"\\u0000", b"\\u000a", b"\\ud800", b"\\u0020", b"\\u00a0", b"\\u0660", b"\\x30",
                b"\\u30", b"\\/", b"\x00", b"\x1f", b"\\ufeff", b"\\u0661", b"\xc2\xa0", b"\xff", b"\xc0\xb0"))
            at = self.r.choice((1, len(token) - 1))
            token = token[:at] + more + token[at:]
        if self.r.random() < 0.3:
            key = Raw(quoted(self.r, key, 1.0))
        d.tree[n] = [key, Raw(token)]

    def again(self, d):
        """An ID that was there before: in other words the same, or a change in one column."""
        r = self.r
        event = dict(r.choice(self.said[-400:] if r.random() < 0.7 else self.said))
        if r.random() < 0.5:
            column = r.choice([c for c in (*LIMITS, "LESSON_DATE", "DATE_CREATE")])
            new = plain(r, self.numbers).get(column, r.choice((0, 1)))
            if column in OPTIONAL:
                new = None if event.get(column) is not None else r.choice((0, 0, 1, None))
            if column == "DATE_CREATE" and r.random() < 0.7:  # the same instant, or a microsecond later
                whole, _, fraction = event[column].partition(".")
                new = r.choice((f"{whole}.{fraction:0<6}", f"{whole}.{fraction:0<5}1", f"{whole}.{fraction}"[:26]))
            event[column] = new
        if r.random() < 0.4:
            event["ID"] = r.choice((event["ID"].upper(), event["ID"].title()))
        if r.random() < 0.3:
            event = {k: v for k, v in event.items() if v is not None}
        d.tree[:] = self._draft(event).tree
        d.escaped = r.choice((0, 0, 0.2, 1.0))
        if r.random() < 0.3:
            into(r, d, r.choice(("x", 1, None)))

    def length(self, d):
        """A line of just the length that is allowed, or a byte more or less."""
        r = self.r
        if r.random() > 0.08:  # a mebibyte each: few of them
            return self.twice(d)
        if not self.sizes:  # a deck, so that each way to fill a line is seen on both sides of the border
            self.sizes = [(kind, over) for kind in range(11) for over in (0, 1)] + [(0, -1)]
            r.shuffle(self.sizes)
        kind, over = self.sizes.pop()
        size = LINE_MAX + over

        def pad(line):
            room = max(0, size - len(line))
            if kind < 3:
                return (line + b" " * room, b" " * room + line, line[:-1] + b"\t" * room + line[-1:])[kind]
            if kind == 3:
                return line + b" " * (room - 1) + b"\r"
            if kind == 4:  # short in characters, long in bytes
                room -= len(b',"n":""')
                return line[:-1] + b',"n":"' + b"\xd0\xb6" * (room // 2) + b"x" * (room % 2) + b'"' + line[-1:]
            if kind == 5:  # long in bytes, short once the escapes are read
                room -= len(b',"n":""')
                return line[:-1] + b',"n":"' + b"\\u0041" * (room // 6) + b"x" * (room % 6) + b'"' + line[-1:]
            if kind == 6:
                room -= len(b',"n":[0]')
                return line[:-1] + b',"n":[' + b"0," * (room // 2) + b" " * (room % 2) + b"0]" + line[-1:]
            if kind == 7:
                return line[:-1] + b',"n":' + b"9" * (room - 5) + line[-1:]
            if kind == 8:
                room -= len(b',"":0')
                return line[:-1] + b',"' + b"k" * room + b'":0' + line[-1:]
            if kind == 9:  # the column itself, last of two
                room -= len(b'"ID":"",')
                return line[:1] + b'"ID":"' + b"a" * room + b'",' + line[1:]
            room -= len(b',"n":[]')
            return line[:-1] + b',"n":[' + b" " * room + b"]" + line[-1:]
        d.late.append(pad)


def around(r, born):
    """Instants of DATE_CREATE about a birthday: in the year of each border of an age, the day before, on it, and after."""
    year = min(2149, max(2015, born.year + r.choice((0, 0, 1, 18, 150, 151, 152, r.randint(10, 150)))))
    try:
        day = born.replace(year=year)
    except ValueError:  # 29 February in a common year
        day = date(year, 2, 28)
    day = min(date(2149, 12, 31), max(date(2015, 1, 1), day + timedelta(days=r.choice((-1, 0, 0, 1)))))
    return f"{day} {r.choice(('00:00:00', '23:59:59.999999', '02:59:59', '21:00:00.1'))}"
