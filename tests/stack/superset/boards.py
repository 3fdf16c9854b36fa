"""Opens the dashboards in Chromium, works their filters, and holds the numbers that the charts get against rows of the specification.

    boards.py --superset URL --rows latest.ndjson --today 2026-01-31 --pictures FOLDER
    boards.py --superset URL --pictures FOLDER --times 5

The rows are those of `tests/oracle/oracle.py`. Each chart's numbers are counted from them here, without SQL; the chart's are those that its
dashboard got as the answer to its own question. Without rows each dashboard is opened so many times, and told is how long it and each
chart's question took. Pictures of each dashboard, whole and filtered, are kept in the folder. Needs Debian's
chromium and chromium-driver, and the Python of `superset.py python`.
"""
import argparse, calendar, collections, datetime, json, pathlib, re, statistics, sys, tempfile, time, urllib.parse

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

UNKNOWN = "не указано"
PATIENCE_SECONDS = 90
# Of a filter, the column of the rows that it chooses by.
FILTERS = {"Факультет": "FACULTY", "Специальность": "SPECIALIZATION_TITLE", "Курс": "COURSE", "Группа": "GROUP_SHORT_TITLE",
           "Кафедра": "KAFEDRA", "Преподаватель": "TEACHER_FIO"}
BOARDS = {
    "attendance-groups": (["Факультет", "Специальность", "Курс", "Группа"], True,
                          ["Отметок сегодня", "Доля присутствия", "Свежесть данных", "Посещаемость по дням", "Студенты"]),
    "attendance-teachers": (["Кафедра", "Преподаватель"], True,
                            ["Доля присутствия", "Свежесть данных", "Посещаемость по дням", "Преподаватели"]),
    "attendance-deanery": (["Факультет", "Курс", "Группа"], False,
                           ["Отсутствие за две недели", "Пропускают подряд", "Свежесть данных", "В зоне риска: от 30 % пропусков за две недели",
                            "Пропущено подряд три занятия и больше", "Доля отсутствия по факультетам за две недели",
                            "Группы с наибольшей долей отсутствия за две недели"]),
}


# ---------------------------------------------------------------- what the charts are to show
def shown(row, column):
    return UNKNOWN if row.get(column) is None else row[column]


def groups(rows, *columns):
    found = collections.defaultdict(list)
    for row in rows:
        found[tuple(shown(row, column) for column in columns)].append(row)
    return found


def marked(rows, mark):
    return sum(row["ATTENDANCE_MARK"] == mark for row in rows)


def share(rows, mark):
    return marked(rows, mark) / len(rows) if rows else None


def day_ms(day):
    return calendar.timegm(time.strptime(day, "%Y-%m-%d")) * 1000


class Shown:
    """The numbers of each chart, counted from the rows that a filter chooses. A streak is one of all of a student's lessons: of these the filter
    chooses by what the last one says."""

    def __init__(self, all_rows, column, choice, is_chosen, today):
        day = datetime.date.fromisoformat(today)
        since = lambda days: str(day - datetime.timedelta(days=days))
        self.today, self.column, self.choice = today, column, choice
        rows = self.rows = [row for row in all_rows if is_chosen(row)]
        self.fortnight = [row for row in rows if since(14) < row["LESSON_DATE"] <= today]
        self.half_year = [row for row in all_rows if since(183) < row["LESSON_DATE"] <= today]
        self.month_ago = since(30)

    def streaks(self):
        found = []
        for (student,), rows in groups(self.half_year, "STUDENT_ID").items():
            rows.sort(key=lambda row: (row["LESSON_DATE"], row["LESSON_ID"]))
            run = []
            while rows and rows[-1]["ATTENDANCE_MARK"] == 0:
                run.append(rows.pop())
            last = lambda column: next((row[column] for row in run if row.get(column) is not None), UNKNOWN)
            if len(run) >= 3 and run[0]["LESSON_DATE"] > self.month_ago and (not self.column or str(last(self.column)) == self.choice):
                found.append(dict(STUDENT_ID=student, student_name=last("STUDENT_FIO"), group_name=last("GROUP_SHORT_TITLE"),
                                  faculty_name=last("FACULTY"), missed=len(run), missed_since=day_ms(run[-1]["LESSON_DATE"]),
                                  last_lesson=day_ms(run[0]["LESSON_DATE"])))
        return found

    def of(self, chart):
        rows, recent = self.rows, self.fortnight
        if chart == "Отметок сегодня":
            return [dict(marks=sum(row["LESSON_DATE"] == self.today for row in rows))]
        if chart == "Доля присутствия":
            return [dict(present_share=share(rows, 1))]
        if chart == "Посещаемость по дням":
            return [dict(LESSON_DATE=day_ms(day), present=marked(of, 1), absent=marked(of, 0)) for (day,), of in groups(rows, "LESSON_DATE").items()]
        if chart == "Студенты":
            return [dict(student_name=name, STUDENT_ID=number, group_name=group, marks=len(of), present=marked(of, 1), absent=marked(of, 0))
                    for (name, number, group), of in groups(rows, "STUDENT_FIO", "STUDENT_ID", "GROUP_SHORT_TITLE").items()]
        if chart == "Преподаватели":
            return [dict(teacher_name=name, kafedra_name=kafedra, marks=len(of), present_share=share(of, 1), absent_share=share(of, 0))
                    for (name, kafedra), of in groups(rows, "TEACHER_FIO", "KAFEDRA").items()]
        if chart == "Отсутствие за две недели":
            return [dict(absent_share=share(recent, 0))]
        if chart == "Пропускают подряд":
            return [dict(students=len(self.streaks()))]
        if chart.startswith("В зоне риска"):
            return [dict(group_name=group, student_name=name, STUDENT_ID=number, marks=len(of), absent=marked(of, 0), absent_share=share(of, 0),
                         faculties=", ".join(sorted({row["FACULTY"] for row in of if row.get("FACULTY")})) or UNKNOWN)
                    for (group, name, number), of in groups(recent, "GROUP_SHORT_TITLE", "STUDENT_FIO", "STUDENT_ID").items()
                    if len(of) >= 5 and share(of, 0) >= 0.3]
        if chart.startswith("Пропущено подряд"):
            return self.streaks()
        if chart.startswith("Доля отсутствия по факультетам"):
            return [dict(faculty_name=name, absent_share=share(of, 0)) for (name,), of in groups(recent, "FACULTY").items()]
        if chart.startswith("Группы с наибольшей"):
            return [dict(group_name=name, absent_share=share(of, 0)) for (name,), of in groups(recent, "GROUP_SHORT_TITLE").items()
                    if len(of) >= 10]
        sys.exit(f"nobody knows what chart {chart!r} is to show")


def plain(rows, columns):
    """Rows in a form in which those of the specification and of the charts are alike."""
    def value(of):
        return round(float(of), 9) if isinstance(of, (int, float)) else of
    return sorted(json.dumps([value(row.get(column)) for column in columns], ensure_ascii=False) for row in rows)


# ---------------------------------------------------------------- the browser
class Browser:
    def __init__(self, url, pictures):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
                         "disable-component-update", "disable-sync", "window-size=1500,2000", "lang=ru", "disable-dev-shm-usage",
                         # Nothing leaves the machine.
                         "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"user-data-dir={tempfile.mkdtemp()}"):
            options.add_argument("--" + argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_script_timeout(PATIENCE_SECONDS)
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.url, self.pictures, self.names = url, pathlib.Path(pictures), {}
        self.pictures.mkdir(parents=True, exist_ok=True)

    def wait(self, what, is_so):
        try:
            # What a page takes away while it is looked at is not there.
            gone = [StaleElementReferenceException]
            return WebDriverWait(self.driver, PATIENCE_SECONDS, 0.1, ignored_exceptions=gone).until(lambda _: is_so())
        except Exception as error:
            self.picture("failed")
            sys.exit(f"waited {PATIENCE_SECONDS} s for {what}: {error}; see {self.pictures}/failed.png")

    def find(self, selector):
        return [one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]

    def log_in(self):
        self.driver.get(self.url + "/login/")
        self.wait("the login page", lambda: self.find("input[type=password]"))
        self.find("input#username, input[name=username]")[0].send_keys("admin")
        self.find("input[type=password]")[0].send_keys("admin")
        self.find("button[type=submit], input[type=submit]")[0].click()
        self.wait("the login", lambda: "/login" not in self.driver.current_url)
        script = "const done = arguments[0]; fetch('/api/v1/chart/?q=(page_size:100,columns:!(id,slice_name))').then(r => r.json()).then(done)"
        # Just after a login it may be refused for a moment.
        charts = self.wait("the charts to be told", lambda: self.driver.execute_async_script(script).get("result"))
        self.names = {one["id"]: one["slice_name"] for one in charts}

    def open(self, board, more=""):
        self.answers()
        self.driver.get(f"{self.url}/superset/dashboard/{board}/{more}")

    def answers(self):
        """What the charts have been answered since this was asked last: by chart the rows."""
        requests, found = {}, {}
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            request = message["params"].get("request", {})
            if message["method"] == "Network.requestWillBeSent" and "/chart/data" in request["url"] and request["method"] == "POST":
                requests[message["params"]["requestId"]] = request
        for number, request in requests.items():
            asked = request.get("postData") or self.driver.execute_cdp_cmd("Network.getRequestPostData", {"requestId": number})["postData"]
            chart = json.loads(asked).get("form_data", {}).get("slice_id")
            body = json.loads(self.driver.execute_cdp_cmd("Network.getResponseBody", {"requestId": number})["body"])
            if chart is not None:
                if "result" not in body:
                    sys.exit(f"chart {self.names.get(chart)!r} got no data: {body}")
                found[self.names[chart]] = body["result"][0]["data"]
        return found

    def is_loading(self):
        return self.find('[data-test="loading-indicator"], [aria-label=Loading], .loading, .ant-spin-spinning')

    def settled(self, charts):
        """The answers of all of these charts, once they are drawn."""
        found = {}

        def is_so():
            if self.is_loading() or len(self.find(".slice_container")) < len(charts):
                return False
            found.update(self.answers())
            return all(chart in found for chart in charts)
        self.wait(f"{charts} to be drawn", is_so)
        self.wait("nothing to load", lambda: not self.is_loading())
        alerts = [one.text for one in self.find('.ant-alert-error, [role=alert]') if len(one.text) > 8]
        if alerts:
            self.picture("failed")
            sys.exit(f"the page says: {alerts}")
        return found

    def pick(self, name, wanted=None):
        """Takes a choice of a filter, the first or the one that is wanted, by mouse, and applies it; returns the choice."""
        script = """const name = arguments[0];
            const found = [...document.querySelectorAll('.ant-form-item')].filter(e => e.innerText.trim().split('\\n')[0] === name);
            return found.length ? found[found.length - 1].querySelector('.ant-select-selector, .ant-select, [role=combobox]') : null"""
        box = self.wait(f"filter {name}", lambda: self.driver.execute_script(script, name))
        options = ".ant-select-dropdown:not(.ant-select-dropdown-hidden) .ant-select-item-option"
        choices = lambda: [one for one in self.find(options) if one.text and not re.match("Select All|Выбрать вс", one.text)]
        ActionChains(self.driver).move_to_element(box).click().perform()
        self.wait(f"choices of {name}", lambda: choices() and not self.find(".ant-select-dropdown .ant-spin-spinning"))
        if wanted:
            ActionChains(self.driver).send_keys(wanted).perform()
            self.wait(f"{wanted} among the choices of {name}", lambda: [one for one in choices() if one.text == wanted])
        choice = self.wait(f"a choice of {name}", lambda: [one for one in choices() if wanted in (None, one.text)])[0]
        text = choice.text
        choice.click()
        ActionChains(self.driver).send_keys(Keys.ESCAPE).perform()
        button = "//button[contains(translate(., 'ПРИМЕНТЬ', 'применть'), 'применить')]"
        found = self.wait("the button", lambda: [b for b in self.driver.find_elements(By.XPATH, button) if b.is_enabled()])
        self.driver.execute_script("arguments[0].click()", found[0])
        return text

    def took(self):
        """By chart, how long its question took on this page, in s."""
        script = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/chart/data')).map(e => [e.name, e.duration])"
        found = {}
        for address, ms in self.driver.execute_script(script):
            asked = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query).get("form_data", ["{}"])[0]
            found[self.names.get(json.loads(asked).get("slice_id"))] = ms / 1000
        return found

    def picture(self, name):
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))


def time_boards(browser, times):
    try:
        browser.log_in()
        for board, (_, _, charts) in BOARDS.items():
            drawn, took = [], collections.defaultdict(list)
            for _ in range(times):
                begun = time.monotonic()
                browser.open(board)
                browser.settled(charts)
                drawn.append(time.monotonic() - begun)
                for chart, seconds in browser.took().items():
                    took[chart].append(seconds)
            browser.picture(f"{board}-timed")
            print(f"{board}: drawn after {drawn[0]:.1f} s, then {statistics.median(drawn[1:] or drawn):.1f} s; questions in s, p50 and most:")
            for chart, seconds in took.items():
                print(f"    {chart}: {statistics.median(seconds):.2f} {max(seconds):.2f}")
    finally:
        browser.driver.quit()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--superset", required=True)
    p.add_argument("--pictures", required=True)
    p.add_argument("--rows")
    p.add_argument("--today")
    p.add_argument("--times", type=int)
    a = p.parse_args()
    browser = Browser(a.superset, a.pictures)
    if a.times:
        time_boards(browser, a.times)
        return
    rows = [json.loads(line) for line in open(a.rows, encoding="utf-8")]
    compared = told = 0

    def compare(answers, charts, what, column=None, choice=None, is_chosen=lambda row: True, is_timed=False, must_show=False):
        nonlocal compared, told
        for chart in charts:
            if chart == "Свежесть данных":
                if not re.match(r"\d\d\.\d\d\.\d{4} ", answers[chart][0]["up_to_shown"]):
                    sys.exit(f"{what}: the data are said to be fresh up to {answers[chart]}")
                continue
            # That of today heeds no span of time.
            is_free = is_timed and chart == "Отметок сегодня"
            wanted = Shown(rows, column, choice, (lambda row: True) if is_free else is_chosen, a.today).of(chart)
            if must_show and not wanted:
                sys.exit(f"{what}, {chart}: the rows are such that it has nothing to show, so it shows nothing of the chart")
            columns = sorted(wanted[0]) if wanted else []
            got, wanted = plain(answers[chart], columns), plain(wanted, columns)
            if got != wanted:
                only = lambda one, other: [row for row in one if row not in other][:3]
                sys.exit(f"{what}, {chart}: {len(got)} rows, {len(wanted)} wanted; only shown: {only(got, wanted)}; only wanted: {only(wanted, got)}")
            compared, told = compared + 1, told + len(got)

    try:
        browser.log_in()
        for board, (filters, is_timed, charts) in BOARDS.items():
            begun = time.monotonic()
            browser.open(board)
            answers = browser.settled(charts)
            print(f"{board}: drawn after {time.monotonic() - begun:.1f} s")
            compare(answers, charts, board, must_show=True)
            browser.picture(board)
            fresh = [chart for chart in charts if chart != "Свежесть данных"]
            for name, wanted in [(name, None) for name in filters] + [(filters[-1], UNKNOWN)]:
                browser.open(board)
                browser.settled(charts)
                column, choice = FILTERS[name], browser.pick(name, wanted)
                is_chosen = lambda row: str(shown(row, column)) == choice
                if sum(map(is_chosen, rows)) in (0, len(rows)):
                    sys.exit(f"{board}: {name} = {choice!r} chooses none of {len(rows)} rows, or all")
                compare(browser.settled(fresh), fresh, f"{board}, {name} = {choice}", column, choice, is_chosen)
                browser.picture(f"{board}-{FILTERS[name].lower()}")
            if is_timed:
                days = sorted({row["LESSON_DATE"] for row in rows})
                begin, end = days[len(days) // 3], days[2 * len(days) // 3]
                span = f"'{begin} : {end}'"
                browser.open(board, "?native_filters=(NATIVE_FILTER-time:(__cache:(),extraFormData:(time_range:" + span +
                             "),filterState:(value:" + span + "),id:NATIVE_FILTER-time,ownState:()))")
                is_chosen = lambda row: begin <= row["LESSON_DATE"] < end
                compare(browser.settled(fresh), fresh, f"{board}, {begin} to {end}", is_chosen=is_chosen, is_timed=True)
                browser.picture(f"{board}-time")
    finally:
        browser.driver.quit()
    print(f"{compared} charts with {told} rows are as the rules say; pictures are in {browser.pictures}")


if __name__ == "__main__":
    main()
