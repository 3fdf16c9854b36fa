"""JSON written out in odd ways, and spoiled ways: what the attacks on events and on documents share.

Shape: a tree of `Pairs` (objects whose keys may repeat), lists, Python values and `Raw` tokens in; the bytes of one line out.

Invariants: the same random state gives the same bytes; no line holds a newline byte. An attack says nothing of whether
its line still stands: the border between the two is the aim, and the oracle alone decides.

Not here: what a column or a document means (`hostile_events`, `hostile_documents`).
"""
import json, re

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
SPACES = (b"", b"", b"", b" ", b"\t", b"\r", b"  ", b" \t\r ")
NO_SPACES = (b"\x0b", b"\x0c", b"\x00", b"\x1c", b"\x1f", b"\x7f", b"\x85", b"\xa0", b"\xc2\xa0", b"\xc2\x85", b"\x08",
             b"\xe2\x80\xa8", b"\xe2\x80\x8b", b"\xe3\x80\x80", b"\xef\xbb\xbf", b"\\n", b"\\", b"//", b"#", b"/**/", b";")
BOM = b"\xef\xbb\xbf"

# Values of keys where nobody looks: each is JSON or nearly JSON.
LITERALS = [s.encode() for s in (
    "NaN Infinity -Infinity nan -NaN inf +Infinity TRUE True tru truee nul null nulll None undefined true false - + +1 -1 01 -01 00 "
    "-00 0 0.0 1. .5 -.5 0. -0. 1e5 1E+5 1e-5 1e+ 1e 1E 1e- 1.e5 1.5e 1.5e+05 1e05 0e0 0E-0 1e5.5 1e999999 -1e999999 1e-999999 "
    "1e+999999 -0 -0.0 -0e1 0x10 0b1 1_000 1,000 --1 -+1 1- 1f 1L 1n 1٢ ٣ ０ 1.٢ 1e٢ 'a' `a` word [1,] [,1] [,] {,} [1,,2] "
    "[1;2] [1 {\"a\"} {\"a\":} {:1} {\"a\":1,} {\"a\"1} {\"a\"::1} {\"a\";1} {\"a\"=1} {a:1} {'a':1} {1:1} {null:1} {true:1} {[]:1} "
    "[] {} [[]] [{}] {\"\":{}} \"\" [1]] {\"a\":1}} 18446744073709551615 18446744073709551616 -9223372036854775808 "
    "-9223372036854775809 99999999999999999999 100000000000000000000 0.1e1 1.0 1e2 9007199254740993 "
    "1.7976931348623157e308 1.7976931348623159e308 4.9e-324 2.2250738585072011e-308 //x /**/1 1/**/ <1> =1 \"a\"\"b\" \"a\"+\"b\"").split()
] + [b"0 1", b"- 1", b"1 .5", b"1 e5", b"nu ll", b"", b" ", b"9" * 30, b"-" + b"9" * 30, b"9" * 5000, b"0" * 30,
    b"0." + b"3" * 500,
     b"1" + b"0" * 400, b"1" + b"0" * 400 + b".5e-400", b"1e" + b"0" * 50 + b"1", b"1e" + b"9" * 400, b"-1e-" + b"9" * 400]

# What stands between the quotes of a string: good and bad escapes, control characters, half a pair.
ESCAPES = [s.encode() for s in (
    r'\" \\ \/ \b \f \n \r \t \u0000 \u001f \u0041 \u00e9 \u20AC \u20ac \uFFFF \ufffe \uFEFF \u2028 \x41 \a \v \0 \' \U0041 \e \1 \N \R \T \B \F '
    r'\u \u1 \u12 \u123 \u12G4 \u{41} \u+041 \u-041 \u0x41 \u0_41 \u004 \uＡ０００ \ud800 \udbff \udc00 \udfff \uD83D\uDE00 \ud83d\ude00 \uDE00\uD83D '
    r'\ud83d\ud83d\ude00 \ud83d\ude00\ude00 \ud83dx\ude00 \ud83d\n\ude00 \ud83d\\ude00 \ud83d\u0041 \ud83d\u \ud83d\ude0 \ud83d\ude0g \ud83d\uDBFF '
    r'\\\" \\\\ \\u12 \\ud800 \\\u0041 \\\ud800').split()
] + [b"\\u 041", b"\\u00 41", b"\\u004 ", b"\\ ", b"\\\r", b"\\\t", b"\\\x00", b"\\\xc3\xa9", b"\\", b"\\\\\\", b'"', b'\\""',
     b"'", b"\x7f", b"\xc2\x80", b"\xc2\x9f", b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xef\xbb\xbf", b"/",
     b"\\ud83d\xf0\x9f\x98\x80"] + [
    bytes([c]) for c in range(0x20) if c != 0x0A]

# UTF-8 on both sides of every border of the standard's table.
SEQUENCES = [bytes.fromhex(s) for s in (
    "c280 dfbf e0a080 e0bfbf e18080 ed8080 ed9fbf ee8080 efbfbd efbfbe efbfbf f0908080 f09f9880 f3bfbfbf f48fbfbf efb790 cc81 "
    "80 bf c0 c080 c0af c1bf c2 c27f c2c0 df e0 e080 e08080 e09fbf e0a0 e0a07f e282 ed a0 eda0 eda080 edadbf edb080 edbfbf eda0bdedb880 "
    "f0 f080 f0808080 f08fbfbf f090 f09080 f09f98 f09f987f f4908080 f4bfbfbf f5808080 f7bfbfbf f8888080 f888808080 fc8480808080 fe ff "
    "fffe feff c3c3a9 e9").split()]

DEPTHS = (62, 63, 64, 65, 66, 127, 128, 129, 1000)


class Raw(bytes):
    """A token that stands as it is, quotes and all."""


class Pairs(list):
    """An object as `[key, value]` pairs in the order of writing; a key may stand more than once."""

    def where(self, key):
        """The position of `key`, or None."""
        return next((n for n, pair in enumerate(self) if pair[0] == key), None)

    def put(self, key, value):
        """Sets the first pair of that key, or adds one."""
        n = self.where(key)
        if n is None:
            self.append([key, value])
        else:
            self[n][1] = value

    def drop(self, key):
        self[:] = [pair for pair in self if pair[0] != key]


def pairs(value):
    """The tree of `Pairs` of a plain Python value."""
    if isinstance(value, dict):
        return Pairs([k, pairs(v)] for k, v in value.items())
    return [pairs(v) for v in value] if isinstance(value, list) else value


class Draft:
    """One line in the making: its tree, how it is spelled, and what is done to the bytes afterwards."""

    def __init__(self, tree):
        self.tree = tree
        self.gap = None      # r -> bytes between two tokens
        self.escaped = 0.0   # share of characters of strings that are written as \uXXXX
        self.late = []       # bytes -> bytes, in this order

    def spell(self, r):
        line = b"".join(self._tokens(r, self.tree))
        for change in self.late:
            line = change(line)
        return line.replace(b"\n", b"\r")

    def _tokens(self, r, value):
        gap = (lambda: self.gap(r)) if self.gap else (lambda: b"")
        yield gap()
        if isinstance(value, Raw):
            yield bytes(value)
        elif isinstance(value, Pairs):
            yield b"{" + gap()
            for n, (k, v) in enumerate(value):
                yield b"," * (n > 0) + gap() + quoted(r, k, self.escaped) + gap() + b":"
                yield from self._tokens(r, v)
            yield b"}"
        elif isinstance(value, list):
            yield b"["
            for n, v in enumerate(value):
                yield b"," * (n > 0)
                yield from self._tokens(r, v)
            yield b"]"
        elif isinstance(value, str):
            yield quoted(r, value, self.escaped)
        else:
            yield json.dumps(value).encode()
        yield gap()


def quoted(r, text, escaped):
    """A string with a share of its characters in escapes; a token stays as it is."""
    if isinstance(text, Raw):
        return bytes(text)
    if not escaped:
        return json.dumps(text, ensure_ascii=not text.isprintable()).encode()
    out = []
    for c in text:
        if r.random() < escaped:
            units = c.encode("utf-16-be", "surrogatepass")
            form = r.choice(("\\u%04x", "\\u%04X"))
            out.append("".join(form % int.from_bytes(units[i:i + 2], "big") for i in range(0, len(units), 2)))
        else:
            out.append(json.dumps(c, ensure_ascii=not c.isprintable())[1:-1])
    return ('"' + "".join(out) + '"').encode()


def objects(value, depth=1):
    """Every object of a tree with its depth, the outermost (1) first."""
    if isinstance(value, Pairs):
        yield value, depth
        for _, v in value:
            yield from objects(v, depth + 1)
    elif isinstance(value, list):
        for v in value:
            yield from objects(v, depth + 1)


def stranger(r):
    """A key that is no column and no field: some look much like one."""
    return r.choice(("n", "comment", "", " ", "id", "Id", "ID ", " ID", "ID\u0000", "I\u0307D", "ＩＤ", "journal_id",
        "JOURNAL-ID", "PERSONA", "personal",
                     "\ufeffID", "ключ", "\U0001f600", "\u2028", "__proto__", "$serde_json::private::Number", "\"", "\\",
                     Raw(b'"\\ud800"'), Raw(b'"ID\\udc00"'), Raw(b'"\\ud83dID"'), Raw(b'"_id\\ud800"')))


def into(r, draft, value, key=None, outermost=False):
    """Puts a value under a key that nobody reads, somewhere."""
    places = list(objects(draft.tree))
    place, _ = places[0] if outermost or r.random() < 0.5 else r.choice(places)
    place.insert(r.randint(0, len(place)), [stranger(r) if key is None else key, value])


def structure(r, line):
    """A random offset of the line outside its strings."""
    spots, at = [], 0
    for m in STRING.finditer(line):
        spots += range(at, m.start() + 1)
        at = m.end()
    spots += range(at, len(line) + 1)
    return r.choice(spots)


def nest(depth, kind, inner=b""):
    """That many levels, as arrays, objects, or both by turns."""
    if kind == 0:
        return b"[" * depth + inner + b"]" * depth
    if kind == 1:
        return b'{"a":' * depth + (inner or b"1") + b"}" * depth
    return b'[{"[":' * (depth // 2) + b"[" * (depth % 2) + (inner or b"1") + b"]" * (depth % 2) + b"}]" * (depth // 2)


# The attacks. Each takes the random state and a draft, and changes the draft.

def spaces(r, d):
    """Only space, tab and carriage return may stand between tokens."""
    d.gap = lambda r: r.choice(SPACES)
    if r.random() < 0.6:
        bad = r.choice(NO_SPACES)

        def spoil(line):
            at = r.choice((0, len(line), structure(r, line), structure(r, line)))
            return line[:at] + bad + line[at:]
        d.late.append(spoil)


def literals(r, d):
    into(r, d, Raw(r.choice(LITERALS)))


def escapes(r, d):
    """A string, as value or as key, where nobody looks."""
    token = Raw(b'"' + r.choice((b"", b"a", b"\\\\")) + r.choice(ESCAPES) + r.choice((b"", b"b", b"\\\\")) + b'"')
    into(r, d, *((1, token) if r.random() < 0.4 else (token,)))


def sequences(r, d):
    """Good and bad UTF-8: in a string, in a key, or between tokens."""
    bad = r.choice((b"", b"a", b"\xd0\xb6")) + r.choice(SEQUENCES) + r.choice((b"", b"", b"b", b"\xd0\xb6"))
    where = r.randrange(4)
    if where < 2:
        into(r, d, Raw(b'"' + bad + b'"'))
    elif where == 2:
        into(r, d, 1, Raw(b'"' + bad + b'"'))
    else:
        def spoil(line):
            at = r.choice((0, len(line), r.randint(0, len(line))))
            return line[:at] + bad + line[at:]
        d.late.append(spoil)


def depth(r, d):
    """Nesting on both sides of 64 levels, bare, beside brackets in strings, and under a key whose value is overwritten."""
    base = r.choice([base for _, base in objects(d.tree)])
    place = r.choice([place for place, b in objects(d.tree) if b == base])
    levels = 100_000 if r.random() < 0.004 else r.choice(DEPTHS) - base
    inner = r.choice((b"", b"", b"7", b'"]]]]"', b'"[[[["', b'"\\"[[[{"', b'"\\\\"', b"{}", b"[]"))
    value = nest(levels, r.randrange(3), inner)
    value = r.choice((value, value, value, value[:-1], value + b"]", value[:levels], value.replace(b"]", b"}", 1)))
    how = r.randrange(5)
    key = r.choice(("n", "hidden"))
    place.insert(r.randint(0, len(place)), [key, Raw(value)])
    if how == 0:
        place.append([key, 1])
    elif how == 1:
        place.insert(0, ["[" * 70, "{[" * r.choice((40, 70)) + "\"\\"])
    elif how == 2:
        place.insert(0, [Raw(b'"' + b"[{" * 40 + b'\\""'), Raw(b'"\\\\' + b"]}" * 40 + b'"')])


def brackets(r, d):
    """Many brackets, few levels: side by side, or in strings only."""
    token = r.choice((b"[" + b",".join([b"[]"] * 100) + b"]", b"[" + b",".join([b"{}"] * 70) + b",[[]]]",
        b'"' + b"[" * 200 + b'"',
                      b'"\\"' + b"{[" * 100 + b'\\\\"', b'["\\\\",' + b",".join([b'"["'] * 100) + b"]",
                      b"[" + b"[]" * 80 + b"]",
                      b'{"' + b"[" * 100 + b'":' + b'["\\\\\\"' + b"{" * 100 + b'"]}'))
    into(r, d, Raw(token))


def frame(r, d):
    """What stands before, after and around the object."""
    kind = r.randrange(20)
    forms = (lambda b: BOM + b, lambda b: b + BOM, lambda b: b"\xff\xfe" + b, lambda b: b + b"\x00", lambda b: b"\x00" + b,
             lambda b: b + b, lambda b: b + b" " + b, lambda b: b + b",", lambda b: b"[" + b + b"]", lambda b: b + b"}",
             lambda b: b"{" + b + b"}", lambda b: b + b" null", lambda b: b + b"//", lambda b: b"/**/" + b,
             lambda b: b'{"event":' + b + b"}",
             lambda b: json.dumps(b.decode("utf-8", "replace")).encode(),
             lambda b: b"\xff\xfe" + b.decode("utf-8", "replace").encode("utf-16-le"),
             lambda b: b + b"\r", lambda b: b"\t\r " + b + b" \t\r\r", lambda b: b")]}'," + b)
    d.late.append(forms[kind])


def cuts(r, d):
    """A piece is missing, or almost nothing is there."""
    if r.random() < 0.25:
        rest = r.choice((b"", b" ", b"\r", b"\t \r", b"{}", b"{ }", b"[]", b"null", b"true", b"7", b"{", b"}", b"\x00", BOM,
            b'""', b'"', b"-", b"{}{}"))
        d.late.append(lambda line: rest)
    elif r.random() < 0.5:
        d.late.append(lambda line: line[:r.randrange(len(line) + 1)])
    else:
        d.late.append(lambda line: line[:-r.randint(1, 3)])


def commas(r, d):
    """One separator of the line is doubled, missing, or another one."""
    new = r.choice((b"", b",,", b"::", b",:", b";", b"=", b"=>", b", ,", b" ", b",//x\r", b",}", b"]", b"}"))
    which = r.choice((b",", b":", b"{", b"}", b'"'))

    def spoil(line):
        spots = [m.start() for m in re.finditer(re.escape(which), line)]
        at = r.choice(spots) if spots else 0
        return line[:at] + new + line[at + 1:]

    def trail(line):
        return line[:-1] + r.choice((b",}", b", }", b"}", b",,}", b'"}', b",\"a\"}", b",1}", b",null}"))
    d.late.append(r.choice((spoil, spoil, trail)))


def noise(r, d):
    """A byte or a bit of the line is another one."""
    def spoil(line):
        line = bytearray(line)
        for _ in range(r.choice((1, 1, 1, 2))):
            at = r.randrange(len(line) + 1)
            what = r.randrange(5)
            if what == 0 and at < len(line):
                line[at] ^= 1 << r.randrange(8)
            elif what == 1:
                del line[at:at + 1]
            elif what == 2:
                line[at:at] = r.choice(b'"\\{}[]:,0123456789-+.eE \t\r\x00\x0b\x7f\x80\xc2\xff/u').to_bytes(1, "big")
            elif what == 3 and at < len(line):
                line[at:at] = line[at:at + 1]
            elif at + 1 < len(line):
                line[at:at + 2] = line[at:at + 2][::-1]
        return bytes(line)
    d.late.append(spoil)


def quotes(r, d):
    """Keys and values in escapes, which must read the same."""
    d.escaped = r.choice((0.05, 0.3, 1.0))


GRAMMAR = (spaces, spaces, literals, literals, literals, escapes, escapes, escapes, sequences, sequences, sequences, depth,
    depth, brackets, frame,
           frame, cuts, commas, noise, noise, noise, quotes)
