"""Works the journal's pages in Chromium, two browsers side by side, and holds what they show against the API and the rules.

    browser.py --program target/release/tributary --state FOLDER --pictures FOLDER
    browser.py --program target/release/tributary --state FOLDER --pictures FOLDER --students 12000 --events 940000 --times 200
    browser.py --program target/release/tributary --serve SPEC --kafka HOST:PORT --lessons FILE --changes FILE --pictures FOLDER

It starts the journal over a folder, or before a cluster whose engine and feed run, kills it amid a click, and starts it again.
Every rule of the journal is tried by each role with real clicks; what a refusal says is read from the page.
"""
import argparse, contextlib, importlib.util, json, pathlib, subprocess, sys, tempfile, time, urllib.parse, urllib.request, uuid

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service

PATIENCE_SECONDS = 90
AXE = pathlib.Path(importlib.util.find_spec("axe_playwright_python").origin).with_name("axe.min.js").read_text()
PAGES = {"journal": "/", "groups": "/boards/groups", "teachers": "/boards/teachers", "tail": "/tail", "people": "/people", "operations": "/operations"}
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SLOTS = ["09:00", "10:45", "12:30", "15:00", "16:45", "18:30", "20:15", "22:00"]


def wait(what, is_so, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while True:
        value = is_so()
        if value:
            return value
        if time.monotonic() > deadline:
            sys.exit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


class Api:
    """What the pages use, asked without them."""

    def __init__(self, url):
        self.url = url

    def ask(self, method, path, body=None, person=None):
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), method=method)
        request.add_header("Content-Type", "application/json")
        if person:
            request.add_header("Tributary-Person", person)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path, **query):
        status, answer = self.ask("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)
        assert status == 200, (path, status, answer)
        return answer

    def is_ready(self):
        with contextlib.suppress(OSError):
            return self.get("/v1/session")["ready"]
        return False

    def set_clock(self, day, time_of_day):
        status, answer = self.ask("PUT", "/v1/clock", {"moment": f"{day} {time_of_day}"})
        assert status == 200, answer


class Browser:
    """One browser, in which one person works."""

    def __init__(self, api, folder):
        options = webdriver.ChromeOptions()
        for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=ru", f"--user-data-dir={folder}"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.api = api
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.size("desktop")

    def size(self, name):
        self.driver.set_window_size(*SIZES[name])

    def open(self, path, **query):
        self.driver.get(self.api.url + path + (f"?{urllib.parse.urlencode(query)}" if query else ""))

    def act(self, role, number, name="-"):
        """Acts as somebody, as the page remembers it."""
        kind = "student" if role in ("student", "leader") else role
        person = json.dumps({"role": role, "kind": kind, "number": number, "name": name})
        self.driver.execute_script("sessionStorage.setItem('tributary-person', arguments[0])", person)
        self.driver.refresh()

    def choose_person(self, role, number):
        """Acts as somebody who is chosen on the page."""
        self.one("#choose-person").click()
        wait("the chooser", lambda: self.all("[name=role]"))
        box = next(box for box in self.all("[name=role]") if box.get_attribute("value") == role)
        self.driver.execute_script("arguments[0].click()", box)
        kind = "student" if role in ("student", "leader") else role
        wait("the person", lambda: self.all(f'[data-person="{kind}:{number}"]'))
        self.one(f'[data-person="{kind}:{number}"]').click()

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def cell(self, student, lesson):
        return f'.cell[data-student="{student}"][data-lesson="{lesson}"]'

    def state(self, cell):
        """The mark and the state that a cell shows; nothing while it is not there."""
        return self.driver.execute_script(
            "const c = document.querySelector(arguments[0]); return c ? [c.dataset.mark ?? '', c.dataset.state ?? ''] : null", cell)

    def await_cell(self, cell, mark, state="confirmed"):
        wait(f"{cell} shows {mark} {state}, it shows {self.state(cell)}", lambda: self.state(cell) == [str(mark), state])

    def await_grid(self, cell):
        wait("the grid", lambda: self.state(cell) is not None)

    def toasts(self):
        return self.driver.execute_script("return [...document.querySelectorAll('#toasts .toast')].map(t => t.textContent)")

    def await_refusal(self, text):
        wait(f"a refusal that says {text!r}, there is {self.toasts()}", lambda: any(text in toast for toast in self.toasts()))
        self.driver.execute_script("document.querySelectorAll('#toasts .toast').forEach(t => t.remove())")

    def click(self, cell):
        element = self.one(cell)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
        element.click()

    def key(self, cell, *keys):
        self.driver.execute_script("document.querySelector(arguments[0]).focus()", cell)
        ActionChains(self.driver).send_keys(*keys).perform()

    def check_accessible(self, where):
        """Nothing that a tool finds serious."""
        self.driver.execute_script(AXE)
        found = self.driver.execute_async_script("axe.run(document).then(r => arguments[0](r.violations))")
        grave = [(one["id"], one["impact"], one["nodes"][0]["target"]) for one in found if one["impact"] in ("serious", "critical")]
        assert not grave, (where, grave)

    def check_console(self):
        """No error but that of requests which the server refused, as it was to."""
        bad = [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE" and "Failed to load resource" not in entry["message"]
               and "ERR_CONNECTION" not in entry["message"] and "ERR_INCOMPLETE" not in entry["message"]]
        assert not bad, bad


class Server:
    """The journal as a program, over one folder or before a cluster, at one address."""

    def __init__(self, *command):
        self.command = command
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        command = [*self.command, "--address", self.address]
        self.began = time.monotonic()
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = self.child.stdout.readline().strip()
        self.url = said.removeprefix("the journal is at ").rstrip("/")
        assert self.url.startswith("http://127.0.0.1:"), said
        self.address = self.url.removeprefix("http://")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def end(self):
        self.child.terminate()
        code = self.child.wait(timeout=PATIENCE_SECONDS)
        assert code == 0, code


class Game:
    def __init__(self, api, server, browsers, pictures, changes=None):
        """`changes`: where people are changed, before a cluster."""
        self.api, self.server, self.pictures, self.changes = api, server, pictures, changes
        self.one, self.two = browsers
        session = api.get("/v1/session")
        self.today = session["today"]
        self.journal, self.group, lesson = self.freshest()
        grid = self.grid()
        self.lesson = lesson
        self.locked = next(lesson for lesson in grid["lessons"] if lesson["locked"])
        self.teacher = [teacher["number"] for teacher in grid["teachers"]]
        self.deanery = grid["deaneries"][0]["number"]
        self.leader = next(student["student"] for student in grid["students"] if student["leader"])
        marked = {cell["student"] for cell in grid["cells"] if cell["lesson"] == self.lesson["lesson"]}
        # Cells in which nothing stands, or what a student set, are first: others come to them in the order of the rules.
        others = [student["student"] for student in grid["students"] if not student["leader"]]
        self.students = sorted(others, key=lambda student: student in marked)
        self.in_lesson = SLOTS[self.lesson["slot"] - 1]

    def freshest(self):
        """The journal, the group and the lesson of today with most cells in which nothing stands, among those with a past."""
        found = []
        for group in self.api.get("/v1/groups")["groups"]:
            for journal in self.api.get("/v1/journals", group=group)["journals"]:
                if journal["today"] and journal["lessons"] > journal["today"]:
                    grid = self.api.get(f"/v1/journals/{journal['journal']}", group=group)
                    for lesson in (lesson for lesson in grid["lessons"] if lesson["today"]):
                        marked = sum(cell["lesson"] == lesson["lesson"] for cell in grid["cells"])
                        found.append((len(grid["students"]) - marked, journal["journal"], group, lesson))
        return max(found, key=lambda one: one[:2])[1:]

    def grid(self):
        return self.api.get(f"/v1/journals/{self.journal}", group=self.group)

    def standing(self, student):
        cells = self.grid()["cells"]
        return next((cell for cell in cells if cell["student"] == student and cell["lesson"] == self.lesson["lesson"]), None)

    def stands(self, student, mark):
        """What stands, once it is that mark: what is confirmed is visible a moment later."""
        return wait(f"{mark} to stand", lambda: (cell := self.standing(student)) and cell["mark"] == mark and cell)

    def await_visible(self, cell):
        """Until the views show it, and not the journal alone."""
        wait("it is visible", lambda: self.api.get(f"/v1/events/{cell['id']}")["state"] == "visible")

    def at(self, browser, role, number):
        browser.open("/", group=self.group, journal=self.journal)
        browser.act(role, number)
        browser.await_grid(browser.cell(self.leader, self.lesson["lesson"]))

    def cell(self, student):
        return self.one.cell(student, self.lesson["lesson"])

    def refused(self, browser, student, text, *keys):
        shown = wait("the cell", lambda: browser.state(self.cell(student)))[0]
        before = self.stands(student, int(shown)) if shown else self.standing(student)
        if keys:
            browser.key(self.cell(student), *keys)
        else:
            browser.click(self.cell(student))
        browser.await_refusal(text)
        assert self.standing(student) == before, "a refusal changes nothing"
        wait("what stands is shown again", lambda: (browser.state(self.cell(student)) or [""])[0] == ("" if before is None else str(before["mark"])))

    def roles(self):
        """Rule by rule, each role, on three students."""
        one, api = self.one, self.api
        api.set_clock(self.today, self.in_lesson)
        # What an employee set stays with employees, so students act where nothing stands yet.
        fresh = [s for s in self.students if self.standing(s) is None]
        assert len(fresh) >= 2, "there are cells in which nothing stands"
        student = fresh[0]
        cell = self.cell(student)
        self.at(one, "student", student)
        one.click(cell)
        one.await_cell(cell, 1)
        one.click(cell)
        one.await_cell(cell, 0)
        self.refused(one, student, "Отметка уже поставлена с таким же значением", "0")
        self.refused(one, fresh[1], "Можете отмечать только себя")
        # Rule 5: out of the lesson's time.
        api.set_clock(self.today, "08:00" if self.lesson["slot"] == 1 else "08:30")
        self.refused(one, student, "Отметка вне времени пары")
        api.set_clock(self.today, self.in_lesson)
        # The leader marks everybody who is not an employee's.
        self.at(one, "leader", self.leader)
        one.key(cell, "1")
        one.await_cell(cell, 1)
        self.refused(one, student, "Отметка уже поставлена с таким же значением", "1")
        self.at(one, "student", student)
        self.refused(one, student, "Нельзя изменить отметку старосты", "0")
        # A teacher overwrites any, sets 4 and 5, and repeats none of his own.
        teacher = self.teacher[0]
        self.at(one, "teacher", teacher)
        one.key(cell, "4")
        one.await_cell(cell, 4)
        one.key(cell, "5")
        one.await_cell(cell, 5)
        self.refused(one, student, "Отметка уже поставлена с таким же значением", "5")
        one.click(cell)
        one.await_cell(cell, 1)
        # Students and leaders do not change what an employee set.
        self.at(one, "leader", self.leader)
        self.refused(one, student, "Нельзя изменить отметку преподавателя", "0")
        self.at(one, "student", student)
        self.refused(one, student, "Нельзя изменить отметку преподавателя", "0")
        # The deanery excuses, with a certificate, by the menu of the cell.
        self.at(one, "deanery", self.deanery)
        one.key(cell, Keys.F10)
        wait("the menu", lambda: [e for e in one.all('.menu [data-set="2"]') if e.is_displayed()])
        field = one.one("#certificate")
        field.send_keys("17")
        one.one('.menu [data-set="2"]').click()
        one.await_cell(cell, 2)
        stands = self.stands(student, 2)
        assert (stands["by"]["role"], stands["certificate"]) == (3, 17), stands
        one.key(cell, "3")
        one.await_cell(cell, 3)
        # Locked lessons take nothing.
        locked = one.cell(student, self.locked["lesson"])
        before = one.state(locked)
        one.click(locked)
        assert one.one(locked).get_attribute("aria-disabled") == "true"
        status, answer = api.ask("POST", "/v1/clicks", self.body(student, 1, LESSON_ID=self.locked["lesson"], LESSON_DATE=None), f"teacher:{teacher}")
        assert (status, answer["detail"]) == (422, "Занятие заблокировано для редактирования"), answer
        assert one.state(locked) == before
        self.by_program(student, teacher)

    def body(self, student, mark, **more):
        return {"ID": str(uuid.uuid4()), "JOURNAL_ID": self.journal, "STUDENT_ID": student, "LESSON_ID": self.lesson["lesson"],
                "LESSON_DATE": self.lesson["date"], "ATTENDANCE_MARK": mark, **more}

    def by_program(self, student, teacher):
        """What no page sends."""
        stranger = next(person for person in self.api.get("/v1/people", kind="student", limit=200)["people"]
                        if person["group"] != self.group and self.journal not in person["leads"])
        elsewhere = next(person for person in self.api.get("/v1/people", kind="employee", limit=200)["people"]
                         if person["number"] not in self.teacher and person["number"] != self.deanery)
        of_teacher = f"teacher:{teacher}"
        for rule, text, person, body in [
            (1, "Отсутствует обязательное поле: JOURNAL_ID", of_teacher, self.body(student, 1, JOURNAL_ID=None)),
            (1, "Неверный ID журнала", of_teacher, self.body(student, 1, JOURNAL_ID=0)),
            (1, "Неверный ID пользователя", of_teacher, self.body(-1, 1)),
            (1, "Неверный ID занятия", of_teacher, self.body(student, 1, LESSON_ID="x")),
            (2, "Неверное значение посещаемости", of_teacher, self.body(student, 2)),
            (2, "Неверное значение посещаемости", f"student:{student}", self.body(student, 4)),
            (3, "Не удалось определить ID преподавателя", "teacher:", self.body(student, 1)),
            (3, "Нет доступа к данному журналу", f"teacher:{elsewhere['number']}", self.body(student, 1)),
            (3, "Нет доступа к данному журналу", f"student:{stranger['number']}", self.body(stranger["number"], 1)),
            (4, "Занятие не найдено", of_teacher, self.body(student, 1, LESSON_ID=1)),
            (4, "Переданная дата не соответствует дате занятия", of_teacher, self.body(student, 1, LESSON_DATE="2025-01-01")),
        ]:
            before = self.standing(student)
            status, answer = self.api.ask("POST", "/v1/clicks", body, person)
            assert (status, answer["detail"], answer["rule"]) == (422, text, rule), (text, answer)
            assert self.standing(student) == before

    def pair(self):
        """Two people at once on one cell: both browsers end with what stands; each sees the other's clicks."""
        one, two = self.one, self.two
        student = self.students[-1]
        cell = self.cell(student)
        self.at(one, "teacher", self.teacher[0])
        self.at(two, "deanery", self.deanery)
        for turn in range(5):
            one.key(cell, "1" if turn % 2 else "0")
            two.key(cell, "0" if turn % 2 else "1")
            wait("both are answered", lambda: all((b.state(cell) or ["", ""])[1] in ("confirmed", "refused") for b in (one, two)))
            wait("both show what stands", lambda: one.state(cell)[0] == two.state(cell)[0] == str(self.standing(student)["mark"]))
        one.key(cell, "4")
        two.await_cell(cell, 4)
        self.await_visible(self.stands(student, 4))
        board_before = self.api.get("/v1/boards/groups")["today"]
        two.open("/boards/groups")
        wait("the board", lambda: two.text("#marks-today").strip())
        one.key(cell, "1")
        one.await_cell(cell, 1)
        self.await_visible(self.stands(student, 1))
        digits = lambda text: int("".join(c for c in text if c.isdigit()) or -1)
        present = board_before["present"] + 1
        assert self.api.get("/v1/boards/groups")["today"]["present"] == present
        wait("the other's board moves", lambda: digits(two.text("#today-parts").split(",")[0]) == present)

    def killed(self):
        """The server dies while clicks are made: what was confirmed stands, what was not is offered again and written once."""
        one = self.one
        student = self.students[-3]
        cell = self.cell(student)
        self.at(one, "teacher", self.teacher[0])
        one.key(cell, "4")
        one.await_cell(cell, 4)
        confirmed = self.stands(student, 4)
        self.two.open("/tail")
        wait("the tail", lambda: self.two.all(f'#records > li[data-student="{student}"]'))
        self.server.kill()
        one.key(cell, "5")
        wait("the cell says that it is not confirmed", lambda: (one.state(cell) or ["", ""])[1] == "failed")
        assert one.all("#retry-all"), "it offers to try again"
        one.driver.save_screenshot(str(self.pictures / "journal-unconfirmed.png"))
        self.server.start()
        wait("it is there again", self.api.is_ready)
        assert self.standing(student) == confirmed, "what was confirmed stands"
        self.api.set_clock(self.today, self.in_lesson)
        wait("the page is connected again", lambda: one.one("#link").get_attribute("data-state") == "up")
        one.one("#retry-all").click()
        one.await_cell(cell, 5)
        first = self.stands(student, 5)
        # Its records are numbered anew, and the page that was open notices.
        wait("the tail goes on", lambda: len(self.two.all("#records > li")) == len(self.api.get("/v1/tail", limit=200)["records"]) > 0)
        # An answer that was lost on its way: the same click again is no second one.
        status, answer = self.api.ask("POST", "/v1/clicks", self.body(student, 5, ID=first["id"]), f"teacher:{self.teacher[0]}")
        assert (status, self.standing(student)) == (201, first), answer

    def cut_off(self):
        """The network of one browser is gone: a click there is not confirmed and is offered again; what others did meanwhile is seen at its return."""
        one, two = self.one, self.two
        mine, theirs = self.cell(self.students[-4]), self.cell(self.students[-5])
        self.at(one, "teacher", self.teacher[0])
        self.at(two, "deanery", self.deanery)
        network = dict(latency=0, download_throughput=-1, upload_throughput=-1)
        one.driver.set_network_conditions(offline=True, **network)
        before = self.standing(self.students[-4])
        one.key(mine, "4")
        wait("the cell says that it is not confirmed", lambda: (one.state(mine) or ["", ""])[1] == "failed")
        two.key(theirs, "5")
        two.await_cell(theirs, 5)
        assert self.standing(self.students[-4]) == before, "nothing came through"
        one.driver.set_network_conditions(offline=False, **network)
        wait("what happened meanwhile is seen", lambda: one.state(theirs)[0] == "5")
        wait("the page is connected", lambda: one.one("#link").get_attribute("data-state") == "up")
        one.one("#retry-all").click()
        one.await_cell(mine, 4)
        self.stands(self.students[-4], 4)
        two.await_cell(mine, 4)

    def correction(self):
        """A student changes the group: history moves from one group's board to the other's, and the tail shows it."""
        one, two = self.one, self.two
        student = self.students[0]
        person = next(p for p in self.api.get("/v1/people", query=student, kind="student")["people"] if p["number"] == student)
        to = next(group for group in self.api.get("/v1/groups")["groups"] if group != self.group)
        of = lambda group: self.api.get("/v1/boards/groups", group=group)["total"]["marks"]
        before = {group: of(group) for group in (self.group, to)}
        mine = sum(row["marks"] for row in self.api.get("/v1/boards/groups", group=self.group)["students"] if row["student"] == student)
        assert mine > 0
        two.open("/boards/groups", group=to)
        wait("the board of the other group", lambda: two.text("#marks-total").strip())
        one.open("/people", query=student)
        wait("the person", lambda: one.all(f'#people [data-id="{person["id"]}"]'))
        one.one(f'#people [data-id="{person["id"]}"]').click()
        field = wait("the form", lambda: next((e for e in one.all("#card-group") if e.is_displayed()), None))
        if self.changes:
            assert field.get_attribute("readonly") is not None and not one.all("#save"), "people are changed elsewhere"
            self.change_group(person, to)
        else:
            field.clear()
            field.send_keys(to)
            one.one("#save").click()
            wait("it says how much of history moved", lambda: any(c.isdigit() for c in one.text("#saved")))
        digits = lambda text: "".join(c for c in text if c.isdigit())
        wait("the other group's board shows them", lambda: digits(two.text("#marks-total").split("Прис")[0]).startswith(str(before[to] + mine)))
        wait("history to have moved", lambda: {group: of(group) for group in before} == {self.group: before[self.group] - mine, to: before[to] + mine})
        two.open("/tail")
        wait("the tail shows the correction", lambda: two.all(f'#records > li[data-kind="correction"][data-student="{student}"] [data-column="GROUP_SHORT_TITLE"]'))
        two.driver.save_screenshot(str(self.pictures / "tail-correction.png"))
        self.change_group(person, self.group)
        wait("history is as it was", lambda: {group: of(group) for group in before} == before)

    def change_group(self, person, to):
        """As the page does it, or where people are kept."""
        status, answer = self.api.ask("PATCH", f"/v1/people/{person['id']}", {"group": to})
        if not self.changes:
            assert status == 200, answer
            return
        assert status == 403, answer
        document = person["id"].split(":", 1)[1]
        lines = map(json.loads, self.changes.with_name("people.ndjson").read_text().splitlines())
        source = next(line["_source"] for line in lines if line["_id"] == document)
        source["EDUCATION"][0]["department"]["short_title"] = to
        with self.changes.open("a") as changes:
            changes.write(json.dumps({"op": "index", "_id": document, "_source": source}, ensure_ascii=False) + "\n")

    def look(self):
        """Pictures of every page at each size; nothing that hinders people, nothing that the policy forbids."""
        one = self.one
        self.at(one, "teacher", self.teacher[0])
        for size in SIZES:
            one.size(size)
            for name, path in PAGES.items():
                query = {"group": self.group, "journal": self.journal} if name == "journal" else {}
                one.open(path, **query)
                wait("the page", lambda: one.driver.execute_script("return document.querySelector('#link')?.dataset.state") == "up")
                if name in ("groups", "teachers"):
                    wait("its numbers", lambda: one.text("#marks-today").strip() not in ("", "—"))
                time.sleep(0.4)
                one.check_accessible(f"{name} {size}")
                one.driver.save_screenshot(str(self.pictures / f"{name}-{size}.png"))
                wide = one.driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 0, f"{name} at {size} is {wide} px wider than the window"
        one.size("desktop")

    def chooser(self):
        """The acting person is chosen on the page, by keyboard as well."""
        one = self.one
        one.open("/", group=self.group, journal=self.journal)
        one.await_grid(self.cell(self.leader))
        one.choose_person("teacher", self.teacher[0])
        student = self.students[-2]
        cell = self.cell(student)
        one.key(cell, "5")
        one.await_cell(cell, 5)
        one.key(cell, Keys.ARROW_UP)
        moved = one.driver.execute_script("return document.activeElement.dataset.student")
        assert moved and moved != str(student), "arrows move among the cells"
        one.check_accessible("the journal amid work")

    def play(self, parts):
        for part in (self.chooser, self.roles, self.pair, self.cut_off, self.killed, self.correction, self.look):
            if parts and part.__name__ not in parts:
                continue
            begun = time.monotonic()
            part()
            print(f"{part.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        for browser in (self.one, self.two):
            browser.check_console()


# When the board shows other numbers of today, painted: a frame after they are set they are seen.
WATCH = """
window.seen = [];
new MutationObserver(() => requestAnimationFrame(() => window.seen.push(Date.now())))
  .observe(document.querySelector('#today-parts'), {characterData: true, childList: true, subtree: true});
"""


def times(game, clicks):
    """How long from a click in one browser until the other's board shows it."""
    one, two, lesson = game.one, game.two, game.lesson["lesson"]
    game.api.set_clock(game.today, game.in_lesson)
    game.at(one, "teacher", game.teacher[0])
    two.open("/boards/groups")
    wait("the board", lambda: two.text("#today-parts").strip())
    two.driver.execute_script(WATCH)
    took = []
    for turn in range(clicks):
        student = game.students[turn % len(game.students)]
        cell = one.cell(student, lesson)
        begun = one.driver.execute_script("const t = Date.now(); document.querySelector(arguments[0]).click(); return t", cell)
        wait("it is confirmed", lambda: one.state(cell)[1] == "confirmed")
        seen = wait("the board shows it", lambda: [at for at in two.driver.execute_script("return window.seen") if at >= begun])
        took.append(seen[0] - begun)
        game.await_visible(game.stands(student, int(one.state(cell)[0])))
    took.sort()
    quantile = lambda share: took[min(len(took) - 1, int(len(took) * share))]
    held = game.api.get("/v1/status")["records"]
    print(f"{held['latest']} marks, {clicks} clicks: from click to the other browser's board p50 {quantile(0.5)} ms, p99 {quantile(0.99)} ms, "
          f"max {took[-1]} ms")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True, help="the program")
    p.add_argument("--state", type=pathlib.Path, help="the folder of a university; made where there is none")
    p.add_argument("--serve", help="the spec of a dataflow, instead of a folder")
    p.add_argument("--kafka", help="its brokers")
    p.add_argument("--lessons", help="its lessons")
    p.add_argument("--changes", type=pathlib.Path, help="the file of changes that its feed follows, beside the people.ndjson that it began with")
    p.add_argument("--pictures", required=True, type=pathlib.Path, help="a folder for pictures")
    p.add_argument("--times", type=int, help="play nothing; make so many clicks, and say how long the other browser's board takes")
    p.add_argument("--parts", nargs="*", help="only these parts of the game")
    p.add_argument("--students", default="300", help="of a university that is to be made; %(default)s if not given")
    p.add_argument("--events", default="20000", help="likewise; %(default)s if not given")
    a = p.parse_args()
    a.pictures.mkdir(parents=True, exist_ok=True)
    if a.serve:
        server = Server(a.program, "serve", a.serve, "--kafka", a.kafka, "--lessons", a.lessons, "--act-as-anyone")
    else:
        server = Server(a.program, "demo", "--state", str(a.state), "--students", a.students, "--events", a.events)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        ends.callback(server.kill)
        api = Api(server.url)
        wait("the journal", api.is_ready)
        if a.times:
            # Its past is there, and whoever else works over it is done.
            server.kill()
            server.start()
            wait("the journal", api.is_ready)
            print(f"ready {time.monotonic() - server.began:.1f} s after its start", flush=True)
        if a.serve:
            # The journal's time is that of the system; the university's last day is long over.
            lessons = map(json.loads, pathlib.Path(a.lessons).read_text().splitlines())
            api.set_clock(max(lesson["date"] for lesson in lessons), "12:00")
        browsers = []
        for name in ("one", "two"):
            browsers.append(Browser(api, pathlib.Path(folder) / name))
            ends.callback(browsers[-1].driver.quit)
        game = Game(api, server, browsers, a.pictures, a.changes)
        if a.times:
            times(game, a.times)
        else:
            game.play(a.parts)
        server.end()


if __name__ == "__main__":
    main()
