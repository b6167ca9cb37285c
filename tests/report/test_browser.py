"""The page in a real browser: headless Chromium, driven by selenium."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dymn_cli.cli.app import run
from dymn_cli.datasets.label_tables import read_label_table
from dymn_cli.evaluation.event_tables import read_events
from dymn_cli.report.decisions import read_decisions

pytestmark = [pytest.mark.process, pytest.mark.slow]

HOSTILE = '<script>alert(1)<!-- & "x".wav'  # as the fixture calls it
GONE = "2024-05-23_00-10-00_gone.wav"
WAIT_S = 15.0
CELLS = ("th", "rect", "td.number", "td.number:last-child")  # of a row of the bars
ESCAPE, RIGHT, ENTER = "\ue00c", "\ue014", "\ue007"


class Page:
    """A page that is open in a browser."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path
        self.open()

    def open(self) -> None:
        self.driver.get(self.path.as_uri())

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def keys(self, keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if found := true():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {WAIT_S:g} s: {what}")

    def set(self, selector: str, value: str) -> None:
        """Give a control a value, as a user's change does."""
        self.js(
            "const [one, value] = arguments; one.value = value;"
            "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind, {bubbles: true}));",
            self.one(selector),
            value,
        )

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def download(self, name: str) -> Path:
        path = self.driver.downloads / name
        self.until(path.is_file, name)
        return path


@pytest.fixture(scope="module")
def driver(start_browser: Callable[[], Any]) -> Any:
    return start_browser()


@pytest.fixture
def page(driver: Any, recordings: Path) -> Iterator[Page]:
    out = recordings / "report.html"
    assert run(["report", str(recordings / "events.csv"), "-o", str(out), "-q", "--title", "Night <b>"]) == 0
    page = Page(driver, out)
    page.size(1280)
    page.js("localStorage.clear()")
    page.complaints()  # those of pages before may have come late
    page.open()
    for path in driver.downloads.iterdir():
        path.unlink()
    yield page
    assert page.complaints() == []


def test_it_opens_and_names_are_names(page: Page) -> None:
    assert page.text("h1") == "Night <b>"
    assert page.text("#count") == "5 of 5 events in 3 of 3 recordings"
    assert [one.text for one in page.all(".lane h3")] == ["20240522_235900.wav", HOSTILE, GONE]
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert page.js("return document.querySelectorAll('b').length") == 0
    assert GONE in page.one(".problems").get_attribute("textContent")


def test_nothing_is_loaded_and_nothing_else_runs(page: Page) -> None:
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    ran = page.driver.execute_async_script(
        "const done = arguments[0], script = document.createElement('script');"
        "script.textContent = 'window.evil = 1'; document.body.append(script);"
        "const end = () => done(window.evil ?? 'refused');"
        "fetch('https://example.org/').then(() => done('fetched'), end);"
    )
    assert ran == "refused"
    assert all("Content Security Policy" in text for text in page.complaints())


def test_filters(page: Page) -> None:
    page.set("#threshold", "0.5")
    assert page.text("#count").startswith("3 of 5 events")
    page.keys("[")
    assert page.text("#threshold-value") == "0.45"
    assert page.text("#count").startswith("4 of 5 events"), "a score that is the threshold passes"
    page.set("#threshold", "0")
    page.one("#labels-open").click()
    page.set("#labels-search", "do")
    (dog,) = page.all("#labels-list label")
    assert dog.text.split("\n") == ["Dog", "2"]
    dog.click()
    assert page.text("#count") == "2 of 5 events in 2 of 3 recordings"
    page.keys(ESCAPE)
    assert not page.one("#labels-panel").is_displayed()
    page.set("#search", "20240522")
    page.until(lambda: page.text("#count") == "1 of 5 events in 1 of 3 recordings", "the search")
    page.set("#search", "nothing of that name")
    page.until(lambda: page.one("#nothing").is_displayed(), "the empty list")
    page.one("#reset").click()
    assert page.text("#count") == "5 of 5 events in 3 of 3 recordings"


def test_sorting(page: Page) -> None:
    def order() -> list[str]:
        return [one.text[:10] for one in page.all(".lane h3")]

    page.set("#sort", "score")
    assert order() == ["2024-05-23", "20240522_2", "<script>al"]
    page.set("#sort", "events")
    assert order()[0] == "20240522_2"
    page.set("#sort", "name")
    assert order() == ["<script>al", "2024-05-23", "20240522_2"]


def test_a_click_plays_that_stretch(page: Page) -> None:
    canvas = page.all(".lane canvas")[0]
    width = page.js("return arguments[0].clientWidth", canvas)
    # The second event begins before the first ends, so it has a line of its own, the second one.
    page.js(
        "const [canvas, x] = arguments, box = canvas.getBoundingClientRect();"
        "const place = {bubbles: true, clientX: box.left + x, clientY: box.top + 67 + 15 + 6};"
        "canvas.dispatchEvent(new MouseEvent('click', place));",
        canvas,
        width * 2.7 / 8,
    )
    assert page.text("#now-label").startswith("Hoot")
    assert page.one("#audio").get_attribute("src").endswith("/20240522_235900.wav")
    page.until(lambda: 2.05 < page.js("return document.getElementById('audio').currentTime") < 3.2, "sound")
    page.until(lambda: page.js("return document.getElementById('audio').paused"), "the end of the event")
    assert page.js("return document.getElementById('audio').currentTime") == pytest.approx(3.0, abs=0.35)


def click_lane(page: Page, lane: int, share: float) -> None:
    """Click the spectrogram of a lane, at so much of its width."""
    page.js(
        "const [canvas, share] = arguments, box = canvas.getBoundingClientRect();"
        "const place = {bubbles: true, clientX: box.left + share * box.width, clientY: box.top + 20};"
        "canvas.dispatchEvent(new MouseEvent('click', place));",
        page.all(".lane canvas")[lane],
        share,
    )


def n_decided(page: Page) -> int:
    return page.js("return document.querySelector('#storage').textContent.match(/^\\d+/)?.[0] ?? 0")


@pytest.mark.parametrize(("lane", "name"), [(0, "20240522_235900.wav"), (1, HOSTILE), (2, GONE)])
def test_a_stretch_that_is_played_selects_no_event(page: Page, lane: int, name: str) -> None:
    click_lane(page, 0, 1.2 / 8)
    assert page.text("#now-label").startswith("Owl")
    click_lane(page, lane, 0.95 if lane < 2 else 1.5)
    assert page.text("#now-label") == name
    assert page.text("#now-source").startswith("from 0:0")
    page.keys("krl")
    assert not page.one("#relabel-dialog").is_displayed()
    assert not page.one("#keep").is_enabled()
    assert n_decided(page) == 0
    page.keys("n")
    assert page.text("#now-label").startswith("Hoot"), "the next one after the Owl"


def test_nothing_to_review_is_nothing_to_decide(page: Page) -> None:
    page.keys("v")
    page.set("#search", "nothing of that name")
    page.until(lambda: page.text("#progress-text").startswith("Nothing to review"), "the search")
    assert page.text("#now-label") == ""
    page.js("document.activeElement.blur()")
    page.keys("kr")
    assert n_decided(page) == 0


def test_any_name_is_played(page: Page) -> None:
    page.set("#search", "script")
    page.until(lambda: len(page.all(".lane")) == 1, "the search")
    page.keys("n ")
    page.until(lambda: page.js("return document.getElementById('audio').currentTime") > 0.55, "sound")
    assert page.text("#message") == ""


def test_copies_in_the_page_are_played(page: Page) -> None:
    out = page.path.with_name("copies.html")
    events = str(page.path.parent / "events.csv")
    assert run(["report", events, "-o", str(out), "-q", "--embed-audio"]) == 0
    for path in page.path.parent.glob("*.wav"):
        path.unlink()
    copies = Page(page.driver, out)
    copies.keys("n ")
    copies.until(lambda: copies.js("return document.getElementById('audio').currentTime") > 1.05, "sound")
    assert copies.text("#now-label").startswith("Owl")
    assert copies.text("#message") == ""


def test_what_is_not_there_says_so(page: Page) -> None:
    page.set("#search", "gone")
    page.until(lambda: len(page.all(".lane")) == 1, "the search")
    page.keys("n ")
    assert f"{GONE}: no such recording" in page.text("#message")
    page.set("#search", "20240522")
    page.until(lambda: page.text("#count").startswith("3 of"), "the search")
    (page.path.parent / "20240522_235900.wav").rename(page.path.parent / "moved.wav")
    page.keys("n ")
    page.until(lambda: "20240522_235900.wav cannot be played" in page.text("#message"), "the message")
    assert [text for text in page.complaints() if "ERR_FILE_NOT_FOUND" not in text] == []


def test_a_line_by_keys(page: Page) -> None:
    canvas = page.all(".lane canvas")[0]
    page.js("arguments[0].focus()", canvas)
    page.keys(RIGHT)
    assert page.text("#now-label").startswith("Owl")
    page.keys(RIGHT + RIGHT)
    assert page.text("#now-label").startswith("Dog")
    assert page.one("#live").get_attribute("textContent").startswith("Dog · 0.25, 0:06.0")
    page.keys("+")
    assert page.js("return document.activeElement === arguments[0]", canvas)
    page.keys("?")
    assert page.one("#help").is_displayed()
    page.keys(ESCAPE)
    assert not page.one("#help").is_displayed()


def review(page: Page) -> None:
    """Keep the Owl, reject the Dog of the hostile file, give the Hoot another label."""
    page.keys("v")
    assert page.text("#card-label").startswith("</script>"), "the highest score first"
    page.keys("nk")  # Owl, 0.81
    assert page.text("#card-label") == "Dog", "on to the next"
    page.keys("r")  # Dog, 0.60
    assert page.text("#card-label") == "Hoot"
    page.keys("l")
    page.one("#relabel-input").send_keys("chirp, TWEET" + ENTER)
    page.until(lambda: page.text("#progress-text").startswith("3 of 5 decided"), "the progress")


def test_review_by_keys_and_export(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    review(page)
    assert page.text("#progress-text") == "3 of 5 decided: 1 kept, 1 rejected, 1 relabelled"
    page.keys("e")
    exported = page.download("decisions.csv")
    found = {one.key[4]: (one.verdict, one.label, one.mid) for one in read_decisions(str(exported))}
    assert found == {
        "Owl": ("keep", "Owl", "/m/09d5_"),
        "Hoot": ("relabel", "Chirp, tweet", "/m/07pggtn"),
        "Dog": ("reject", "Dog", "/m/0bt9lr"),
    }
    events = read_events([str(exported)])
    assert {name: [row.labels[0] for row in rows] for name, rows in events.rows.items()} == {
        "20240522_235900.wav": ["Owl", "Chirp, tweet"],
        HOSTILE: [],
    }
    labels = {row.source: row.labels for row in read_label_table(str(exported)).rows}
    assert labels == {"20240522_235900.wav": ("Owl", "Chirp, tweet"), HOSTILE: ()}
    judged = run(["eval", str(page.path.parent / "events.csv"), "--truth", str(exported)])
    assert judged == 0, capsys.readouterr().err


def test_space_plays_after_a_click_and_presses_a_button_reached_by_keys(page: Page) -> None:
    page.keys("v")
    page.set("#search", "20240522")
    page.until(lambda: page.text("#card-label") == "Owl", "the search")
    page.one("#keep").click()
    assert page.text("#card-label") == "Hoot"
    page.keys(" ")
    assert n_decided(page) == "1"
    page.one("#relabel").click()
    page.keys(ESCAPE)
    page.until(lambda: page.js("return document.activeElement === document.body"), "the closed dialog")
    page.keys(" ")
    assert not page.one("#relabel-dialog").is_displayed()
    for n, key in enumerate((" ", ENTER), start=2):
        page.js("arguments[0].focus()", page.one("#keep"))
        page.keys(key)
        assert n_decided(page) == str(n)


def test_a_held_key_decides_once(page: Page) -> None:
    def hold(key: str) -> bool:
        """Say whether the browser was left to act on the key."""
        return page.js(
            "return document.activeElement.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: arguments[0], repeat: true, bubbles: true, cancelable: true}))",
            key,
        )

    page.keys("vk")
    for key in "krxu":
        hold(key)
    assert n_decided(page) == "1"
    page.js("document.getElementById('keep').focus()")
    assert not hold("Enter")
    assert page.text("#card-label") == "Owl"
    hold("n")
    assert page.text("#card-label") == "Dog", "held, it goes on"


def test_labels_of_the_page_come_before_those_of_audioset(page: Page) -> None:
    out = page.path.with_name("own.html")
    (page.path.parent / "own.csv").write_text(
        "source,channel,start_s,end_s,label,mid,score\n"
        "a.wav,mix,0,1,chiffchaff,,0.9\na.wav,mix,2,3,DOG,,0.8\na.wav,mix,4,5,Owl,,0.7\n"
    )
    kept = page.path.parent / "kept.csv"
    kept.write_text("source,start_s,end_s,label,decision\nb.wav,0,1,Wren (song),keep\n")
    events = str(page.path.parent / "own.csv")
    assert run(["report", events, "-o", str(out), "-q", "--review", str(kept)]) == 0
    own = Page(page.driver, out)

    def close(key: str) -> None:
        own.one("#relabel-input").send_keys(key)
        own.until(lambda: own.js("return document.activeElement === document.body"), "no dialog")

    def relabel(typed: str) -> None:
        own.keys("l")
        own.js("document.getElementById('relabel-input').value = ''")
        close(typed + ENTER)

    own.keys("vl")
    offered = own.js("return [...document.querySelectorAll('#vocabulary option')].map((one) => one.value)")
    assert offered[:4] == ["DOG", "Owl", "chiffchaff", "Wren (song)"]
    assert "Dog" not in offered
    assert len(offered) == len(set(offered)) == 527 + 2
    close(ESCAPE)
    relabel("wren (Song)")
    relabel("Chiffchaff")
    names = ["Wren (song)", "chiffchaff", "Owl"]
    own.until(lambda: [one.text for one in own.all("#queue .name")] == names, "two new labels")
    relabel("a new one")
    relabel("a New one")
    own.keys("p")
    relabel("A NEW ONE")
    own.keys("e")
    rows = list(csv.reader(own.download("decisions.csv").read_text().splitlines()))[1:]
    assert [row[4:6] for row in rows] == [
        ["Wren (song)", ""],
        ["a New one", ""],
        ["a New one", ""],
        ["Wren (song)", ""],
    ]


def test_decisions_come_back_with_review(page: Page) -> None:
    review(page)
    page.keys("e")
    exported = page.download("decisions.csv")
    kept = page.path.parent / "kept.csv"
    kept.write_bytes(exported.read_bytes() + b"other.wav,mix,1.000,2.000,Owl,/m/09d5_,,keep,Owl\n")
    exported.unlink()
    again = page.path.with_name("again.html")
    events = str(page.path.parent / "events.csv")
    assert run(["report", events, "-o", str(again), "-q", "--review", str(kept)]) == 0
    second = Page(page.driver, again)
    second.keys("v")
    assert second.text("#progress-text") == "3 of 5 decided: 1 kept, 1 rejected, 1 relabelled"
    assert "1 from --review fit no event here" in second.text("#storage")
    second.keys("e")
    assert second.download("decisions.csv").read_bytes() == kept.read_bytes(), "nothing is lost"


def test_progress_is_kept_and_undone(page: Page) -> None:
    review(page)
    assert "3 decisions in all, saved in this browser" in page.text("#storage")
    page.open()
    page.keys("v")
    assert page.text("#progress-text").startswith("3 of 5 decided")
    page.keys("k")
    assert page.text("#progress-text").startswith("4 of 5 decided")
    page.keys("u")
    assert page.text("#progress-text").startswith("3 of 5 decided")
    page.set("#status", "reject")
    assert page.text("#card-label") == "Dog"
    assert page.text("#card-verdict") == "rejected"


def test_two_tabs_keep_the_decisions_of_both(page: Page) -> None:
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        page.open()
        page.keys("nk")
        page.driver.switch_to.window(first)
        page.until(lambda: n_decided(page) == "1", "the decision of the other tab")
        page.keys("nnr")
        assert n_decided(page) == "2"
        page.open()
        assert n_decided(page) == "2"
    finally:
        page.driver.switch_to.window(next(one for one in page.driver.window_handles if one != first))
        page.driver.close()
        page.driver.switch_to.window(first)


def test_what_another_tab_has_just_kept_is_not_overwritten(page: Page) -> None:
    page.keys("nk")
    store = "Object.keys(localStorage).find((one) => /:[0-9a-f]{16}$/.test(one))"
    page.js(f'localStorage.setItem({store}, \'[[3,"reject","",""]]\')')  # this tab hears of no event
    page.keys("nk")
    assert page.js(f"return JSON.parse(localStorage.getItem({store})).map(([e]) => e)") == [3, 1]
    page.keys("u")
    assert n_decided(page) == "1"


def test_a_browser_that_keeps_nothing_is_told(page: Page) -> None:
    forbid = "Storage.prototype.setItem = () => { throw new DOMException('no', 'SecurityError'); }"
    made = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": forbid})
    try:
        page.open()
        page.keys("vk")
        assert page.text("#progress-text").startswith("1 of 5 decided")
        assert "keeps nothing" in page.text("#storage")
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)
        page.js("window.onbeforeunload = null; document.getElementById('export').click()")


def test_themes(page: Page) -> None:
    def background() -> str:
        return page.js("return getComputedStyle(document.body).backgroundColor")

    light = background()
    page.size(1280, dark=True)
    dark = background()
    assert light != dark
    page.keys("t")
    assert background() == light, "chosen, whatever the system has"
    page.open()
    assert background() == light, "and remembered"
    page.keys("t")
    assert background() == dark


def beyond(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return page.js("const page = document.documentElement; return page.scrollWidth - page.clientWidth")


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
@pytest.mark.parametrize("view", ["lanes", "review"])
def test_it_fits_its_width(page: Page, width: int, view: str) -> None:
    page.size(width)
    page.keys("n" if view == "lanes" else "v")
    assert beyond(page) == 0
    hidden = page.js(
        "const out = ({left, right}) => right > innerWidth + 1 || left < -1;"
        "return [...document.querySelectorAll('button, select, input')]"
        ".filter((one) => one.offsetParent !== null && out(one.getBoundingClientRect()))"
        ".map((one) => one.id || one.textContent)"
    )
    assert hidden == []


@pytest.mark.parametrize(("width", "length"), [(320, 46), (390, 46), (1280, 80), (1280, 200)])
def test_a_long_label_fits_its_width(page: Page, width: int, length: int) -> None:
    name = "Phylloscopus_collybita_contact_call_adult_male_"
    label = (name * 5)[:length]
    events = page.path.parent / "long.csv"
    for file_name in ("a.wav", "20240522_235900.wav"):  # without a heat map, and with one
        events.write_text(f"source,start_s,end_s,label,score\n{file_name},0,1,{label},0.9\n")
        out = page.path.with_name(f"long of {file_name}.html")
        assert run(["report", str(events), "-o", str(out), "-q"]) == 0
        long = Page(page.driver, out)
        long.size(width)
        for keys in ("n", "v"):
            long.keys(keys)
            assert beyond(long) == 0
        table, figure = (long.one(one).rect["width"] for one in (".bars table", ".bars"))
        assert table <= figure
        assert long.one(".bars rect").rect["width"] > figure / 4, "the bar of the label with the most events"


@pytest.mark.parametrize("width", [320, 1280])
def test_bars_lie_beside_their_labels_or_below_them(page: Page, width: int) -> None:
    page.size(width)
    for row in page.all(".bars tbody tr"):
        label, bar, count, length = (row.find_element("css selector", one).rect for one in CELLS)
        assert label["x"] + label["width"] - 1 <= count["x"] < length["x"]
        below = bar["y"] - label["y"] - label["height"]
        assert 0 <= below < 10 if width < 640 else bar["y"] < label["y"] + label["height"]
        assert bar["y"] + bar["height"] <= row.rect["y"] + row.rect["height"]


def test_a_heat_map_that_is_scrolled_keeps_its_labels_in_sight(page: Page) -> None:
    page.size(320)
    heat = page.one(".heat")
    page.js("arguments[0].scrollLeft = 200", heat)
    assert page.js("return arguments[0].scrollLeft", heat) == 200
    assert page.one(".heat tbody th").rect["x"] == heat.rect["x"]


def test_every_control_has_a_name(page: Page) -> None:
    page.keys("v")
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = {"button", "checkbox", "combobox", "searchbox", "slider", "spinbutton", "tab", "application"}
    roles = [
        node for node in nodes if node.get("role", {}).get("value") in controls and not node.get("ignored")
    ]
    assert len(roles) > 10
    assert [node["role"]["value"] for node in roles if not node.get("name", {}).get("value")] == []


def test_thousands_stay_fluent(driver: Any, tmp_path: Path, large_page: Callable[[int, int], bytes]) -> None:
    out = tmp_path / "large.html"
    out.write_bytes(large_page(1000, 10))
    page = Page(driver, out)
    page.size(1280)
    assert page.text("#count") == "10,000 of 10,000 events in 1,000 of 1,000 recordings"
    page.js("scrollTo(0, document.body.scrollHeight)")
    page.until(lambda: page.js("return !!document.querySelector('[data-source=\"999\"]')"), "the last lane")
    assert len(page.all(".lane")) < 30, "only those in sight are there"
    took = page.js(
        "const slider = document.getElementById('threshold'), begin = performance.now();"
        "for (let n = 0; n < 20; n++) {"
        " slider.value = 0.15 + n / 40; slider.dispatchEvent(new Event('input')); }"
        "return (performance.now() - begin) / 20"
    )
    assert took < 250, "milliseconds a step, on a slow machine; a few tens on others"
    page.keys("v")
    assert page.text("#progress-text").startswith("0 of ")
    assert page.complaints() == []


def test_a_point_of_the_map_is_played(driver: Any, recordings: Path) -> None:
    out, matrix = recordings / "map.html", recordings / "lib.npy"
    names = [("20240522_235900.wav", 2.0), (HOSTILE, 0.0)]
    np.save(matrix, np.eye(2, 8, dtype=np.float32))
    with (recordings / "lib.index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["row", "source", "channel", "start_s", "end_s"])
        rows.writerows([n, name, "mix", start, start + 4] for n, (name, start) in enumerate(names))
    assert run(["report", str(recordings / "events.csv"), "--map", str(matrix), "-o", str(out), "-q"]) == 0
    page = Page(driver, out)
    page.size(1280)
    page.open()
    assert {one.text for one in page.all("#map-key li")} == {"Dog", "Owl"}
    page.keys("n")
    page.js("arguments[0].focus()", page.one("#map"))
    page.keys([RIGHT, ENTER])
    page.until(lambda: page.js("return document.getElementById('audio').currentTime") >= 2, "it plays")
    assert "20240522_235900.wav" in page.one("#live").get_attribute("textContent")
    assert page.text("#now-label") == "20240522_235900.wav", "no longer the event that was selected"
    page.keys("r")
    assert n_decided(page) == 0
    assert page.complaints() == []
