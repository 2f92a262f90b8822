"""The page, in a real Chromium: it loads, finds, clicks, selects, and ids that mean no good do no harm."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import HOSTILE, LONG, browsing, lamps, serving, told

pytest.importorskip("starlette", reason="the server is an extra")
pytest.importorskip("plotly", reason="the page draws by plotly")

from hotrow.maps import Map, write_html
from hotrow.models import open_folder
from hotrow.search import Search
from hotrow.serve import create_app

READY = "() => globalThis.hotrow?.page?.ready"


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "lamps"
    lamps(path)
    return path


@pytest.fixture(scope="module")
def address(folder):
    with serving(create_app(folder, metadata=told)) as address:
        yield address


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    opened = open_folder(folder)
    path = tmp_path_factory.mktemp("file") / "map.html"
    write_html(opened, None, path, told(opened, "id"))
    return path.as_uri()


class Visit:
    """A page that is looked at, and all that went wrong or elsewhere meanwhile."""

    def __init__(self, browser, address, **how):
        how = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce", **how}
        self.context = browser.new_context(**how)
        self.page = self.context.new_page()
        self.trouble = []
        self.page.on("console", lambda said: said.type in {"error", "warning"} and self.trouble.append(said.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda asked: self._asked(asked.url, address.partition("#")[0]))
        self.page.goto(address)
        self.page.wait_for_function(READY)

    def _asked(self, url, address):
        if not url.startswith((address, "data:", "blob:")):
            self.trouble.append(f"asked elsewhere: {url}")

    def choose(self, id):
        self.page.evaluate("id => hotrow.page.choose(id)", id)

    def near(self):
        """What the panel shows: ids and scores."""
        ids = self.page.locator("#pane-id ol.scored .id").all_inner_texts()
        scores = self.page.locator("#pane-id ol.scored .score").all_inner_texts()
        return ids, [float(score.replace("−", "-")) for score in scores]

    def heading(self):
        return self.page.locator("#pane-id h2").inner_text()

    def places(self):
        """Where the points are, in pixels of the window: float (n, 2)."""
        return np.array(
            self.page.evaluate(
                """() => {
                  const { points, view, width, height } = hotrow.page.atlas;
                  const box = document.getElementById("map").getBoundingClientRect();
                  return Array.from({ length: points.length / 2 }, (_, i) => {
                    const [x, y] = hotrow.view.pixel(view, points[2 * i], points[2 * i + 1]);
                    return [box.left + width / 2 + x, box.top + height / 2 + y];
                  });
                }"""
            )
        )

    def begin_again(self):
        """As it was at first."""
        self.page.evaluate(
            """() => {
              const { page } = hotrow;
              page.choose(null);
              page.selection.set([]);
              page.tab("id");
              page._tool("move");
              document.getElementById("legend-all").click();
              page.atlas._view(page.atlas.whole);
              document.activeElement.blur();
            }"""
        )
        self.page.wait_for_function("() => document.querySelector('#pane-id .hints')")

    def check(self):
        assert self.page.evaluate("() => globalThis.hurt") is None
        assert self.trouble == []

    def end(self):
        self.check()
        self.context.close()


@pytest.fixture(scope="module")
def one_page(browser, address):
    visit = Visit(browser, address)
    yield visit
    visit.context.close()


@pytest.fixture(scope="module")
def one_file(browser, file):
    visit = Visit(browser, file)
    yield visit
    visit.context.close()


@pytest.fixture
def visit(one_page):
    """A page that all who ask for it share, as it is at first."""
    one_page.begin_again()
    yield one_page
    one_page.check()


def readable(browser_page, id, most=200):
    return browser_page.evaluate("([id, most]) => hotrow.readable(id, most)", [id, most])


def test_it_loads_draws_every_group_and_asks_nobody_else(visit):
    page = visit.page
    assert page.locator("#state").inner_text() == f"{400 + len(HOSTILE)} ids, placed by PCA"
    drawn = page.evaluate(
        """() => {
          const canvas = document.createElement("canvas");
          const from = Array.from(document.querySelectorAll("#plot canvas"));
          [canvas.width, canvas.height] = [from[0].width, from[0].height];
          const pen = canvas.getContext("2d");
          for (const one of from) pen.drawImage(one, 0, 0);
          const colours = new Set();
          const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
          for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 150) colours.add(data.slice(i, i + 3).join());
          return colours.size;
        }"""
    )
    assert drawn >= 4  # three values and none
    assert page.locator("#legend-list li").count() == 4
    assert page.evaluate("() => document.querySelectorAll('#legend img, #legend i').length") == 0


def test_what_is_typed_is_completed_and_what_is_chosen_has_the_neighbours_of_search(visit, folder):
    page = visit.page
    page.keyboard.press("/")
    page.keyboard.type("LAMP-01")
    page.locator("#found li").nth(9).wait_for()
    assert page.locator("#found bdi").all_inner_texts() == [f"{'abcd'[i % 4]}-lamp-{i:03}" for i in range(10, 20)]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#find").get_attribute("aria-activedescendant") == "found-1"
    page.keyboard.press("Enter")
    page.locator("#pane-id svg.one-hot").wait_for()
    assert visit.heading() == "d-lamp-011"
    (ids,), (scores,) = Search(open_folder(folder).side(), metric="cosine").similar(["d-lamp-011"], 10)
    assert visit.near() == ([readable(page, id, 80) for id in ids], [round(score, 2) for score in scores])
    assert not page.locator("#found").is_visible()


def test_a_click_on_a_point_chooses_it_and_lines_go_to_its_neighbours(visit, folder):
    ids = open_folder(folder).side().ids().to_pylist()
    places = visit.places()
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(places))
    point = int(np.argmax(np.where(places[:, 0] > 400, apart.min(1), 0)[:400]))
    visit.page.mouse.click(*places[point])
    visit.page.locator("#pane-id svg.one-hot").wait_for()
    assert visit.heading() == ids[point]
    marked = visit.page.evaluate("() => [hotrow.page.atlas.marks.chosen.point, hotrow.page.atlas.marks.near.length]")
    assert marked == [point, 10]


def test_the_pointer_over_a_point_shows_its_id_and_its_group(visit):
    tip = visit.page.locator("#tip")
    for _ in range(50):  # the map may still be moving to its place
        x, y = visit.places()[401]  # <img …>, of a group that is right to left
        visit.page.mouse.move(x, y)
        visit.page.wait_for_timeout(100)
        if tip.is_visible():
            break
    assert tip.is_visible()
    point = visit.page.evaluate("() => hotrow.page.atlas.marks.hovered")
    assert point >= 0
    assert visit.page.locator("#tip .id").count() == 1
    assert visit.page.locator("#tip img").count() == 0


def inside(polygon, x, y):
    """As the book has it: a ray to the right crosses the border an odd number of times."""
    crossed = 0
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            crossed += 1
    return crossed % 2 == 1


def exported(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes().decode("utf-8")


def test_a_lasso_selects_what_is_inside_and_a_file_has_all_of_it(visit, folder):
    page = visit.page
    ids = open_folder(folder).side().ids().to_pylist()
    places = visit.places()
    corners = [(330.5, 100.5), (800.5, 120.5), (560.5, 760.5)]
    page.click("[data-tool=lasso]")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner)
    page.mouse.up()
    wanted = [i for i, (x, y) in enumerate(places) if inside(corners, x, y)]
    assert 50 < len(wanted) < 400
    assert page.evaluate("() => hotrow.page.selection.points") == wanted
    assert page.locator("#pane-set h2").inner_text() == f"{len(wanted)} selected"
    rows = json.loads(exported(page, "JSON"))
    assert [row["id"] for row in rows] == [ids[i] for i in wanted]
    assert set(rows[0]) == {"id", "<i>kind</i>"}


def test_a_box_selects_what_is_inside_and_a_csv_holds_no_formula(visit, folder):
    page = visit.page
    ids = open_folder(folder).side().ids().to_pylist()
    page.get_by_role("tab", name="Selection").click()
    page.get_by_role("button", name="Select all in view").click()
    assert len(page.evaluate("() => hotrow.page.selection.points")) > 400
    page.evaluate("n => hotrow.page.selection.set(Array.from({ length: n }, (_, i) => i))", len(ids))
    text = exported(page, "CSV")
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == ["id", "<i>kind</i>"]
    assert [row[0] for row in rows] == [f"'{id}" if id.startswith(("=", "+")) else id for id in ids]


@pytest.mark.parametrize("where", ["server", "file"])
def test_ids_that_mean_no_good_are_letters_and_nothing_else(visit, one_file, where):
    visit = visit if where == "server" else one_file
    page = visit.page
    for id in HOSTILE:
        visit.choose(id)
        page.locator("#pane-id svg.one-hot").wait_for()
        assert visit.heading().strip() == readable(page, id).strip()
        told = page.evaluate(
            "id => [hotrow.page.id === id, new URLSearchParams(location.hash.slice(1)).get('id') === id]", id
        )
        assert told == [True, True]
        strange = "#panel :is(script, img, b, i, a:not([href=docs])), #found script, #tip img, #marks *"
        assert page.evaluate("strange => document.querySelectorAll(strange).length", strange) == 0
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("() => getComputedStyle(document.querySelector('#pane-id h2 bdi')).unicodeBidi") == "isolate"
    page.locator("#pane-id details summary").click()  # of the long one: all of it on demand
    assert page.locator("#pane-id pre").inner_text().strip() == readable(page, LONG, 10**6).strip()
    page.evaluate("n => hotrow.page.selection.set(Array.from({ length: n }, (_, i) => i + 400))", len(HOSTILE))
    page.get_by_role("tab", name="Selection").click()
    assert page.locator("#pane-set .list button").count() == len(HOSTILE)
    assert page.locator("#pane-set img, #pane-set script, #pane-set b").count() == 0
    visit.check()


def test_an_id_that_is_not_there_is_said_with_what_is_written_like_it(visit):
    visit.choose("a-lamp-0088")
    visit.page.locator("#pane-id .trouble").wait_for()
    assert visit.heading() == "a-lamp-0088"
    assert "a-lamp-008" in visit.page.locator("#pane-id .examples button").all_inner_texts()
    visit.trouble[:] = [said for said in visit.trouble if "404" not in said]  # Chromium itself says that of any 404


def test_all_can_be_done_by_keys(browser, address):
    visit = Visit(browser, address)
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.type("b-lamp-101")
    page.keyboard.press("Enter")
    page.locator("#pane-id svg.one-hot").wait_for()
    assert visit.heading() == "b-lamp-101"
    order = []
    for _ in range(40):
        page.keyboard.press("Tab")
        order.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert [name for name in order if name in {"colour", "theme", "surface", "closer", "tab-id", "pane-id"}] == [
        "colour", "theme", "surface", "closer", "tab-id", "pane-id",
    ]  # fmt: skip
    page.focus("#surface")
    before = page.evaluate("() => hotrow.page.atlas.view")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("() => hotrow.page.atlas.view")
    assert after["scale"] == pytest.approx(1.5 * before["scale"])
    assert after["x"] == pytest.approx(before["x"] + 60 / after["scale"])
    page.keyboard.press("Escape")
    assert page.evaluate("() => hotrow.page.id") is None
    page.keyboard.press("Enter")  # what is nearest to the middle
    page.locator("#pane-id svg.one-hot").wait_for()
    page.focus("#tab-id")
    page.keyboard.press("ArrowRight")
    assert page.locator("#pane-set").is_visible()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.id") == "tab-model"
    visit.end()


def test_dark_is_as_the_system_has_it_until_somebody_says_otherwise(browser, address):
    visit = Visit(browser, address, color_scheme="dark")
    page = visit.page
    theme = "() => document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate(theme) == "light"
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != dark
    page.reload()
    page.wait_for_function(READY)
    assert page.evaluate(theme) == "light"
    visit.end()


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(
        w * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4)
        for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


WORDS = {
    "paper": ["ink", "faint"],
    "panel": ["ink", "faint", "accent"],
    "wash": ["ink", "faint"],
    "accent": ["on-accent"],
}


def test_words_stand_out_from_what_is_behind_them_in_light_and_in_dark(visit):
    script = "name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()"
    for _ in range(2):
        for behind, words in WORDS.items():
            for word in words:
                two = [luminance(visit.page.evaluate(script, name)) for name in (behind, word)]
                assert (max(two) + 0.05) / (min(two) + 0.05) >= 4.5, (word, behind)  # AA of WCAG 2.2
        visit.page.click("#theme")


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, address):
    visit = Visit(browser, address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visit.page
    visit.choose("c-lamp-002")
    page.locator("#pane-id svg.one-hot").wait_for()
    for tab in ("#tab-id", "#tab-set", "#tab-model"):
        page.locator(tab).tap()
        assert page.evaluate("() => [document.documentElement.scrollWidth, document.body.scrollWidth]") == [360, 360]
    assert page.locator("#map").bounding_box()["height"] > 200
    places = visit.places()
    visit.choose(None)
    page.touchscreen.tap(*places[2])
    page.locator("#pane-id svg.one-hot").wait_for()
    visit.end()


def test_a_file_shows_what_the_server_shows(visit, one_file):
    one_file.begin_again()
    visits = [visit, one_file]
    for id in ("a-lamp-000", "d-lamp-399", HOSTILE[0]):
        seen = []
        for each in visits:
            each.choose(id)
            each.page.locator("#pane-id svg.one-hot").wait_for()
            seen.append((each.heading(), each.near(), each.places().round(2).tolist()))
        assert seen[0] == seen[1]
    for typed in ("lamp-39", "A-LAMP-012", "<", "no such thing"):
        answers = [
            visit.page.evaluate("q => hotrow.page.source.complete(hotrow.page.side, q, 12)", typed) for visit in visits
        ]
        assert answers[0] == answers[1]
    legends = [visit.page.locator("#legend").inner_text() for visit in visits]
    assert legends[0] == legends[1]
    one_file.check()


def test_the_address_keeps_what_is_looked_at_and_back_goes_back(browser, address):
    visit = Visit(browser, f"{address}#side=id&colour=size&id=b-lamp-101")
    page = visit.page
    assert visit.heading() == "b-lamp-101"
    assert page.locator("#colour").input_value() == "size"
    page.locator("#pane-id ol.scored button.choose").first.click()
    page.wait_for_function("() => hotrow.page.id !== 'b-lamp-101'")
    page.go_back()
    page.wait_for_function("() => document.querySelector('#pane-id h2').innerText === 'b-lamp-101'")
    visit.end()


def test_the_legend_shows_one_group_alone_and_hides_one(visit):
    page = visit.page
    shown = "() => hotrow.page.atlas.shown"
    page.locator("#legend .only").first.click()
    assert page.evaluate(shown) == [True, False, False, False]
    assert page.evaluate("() => hotrow.page.atlas.inView().every(point => hotrow.page.colouring.of[point] === 0)")
    page.get_by_role("button", name="Show all").click()
    page.locator("#legend .hide").nth(1).click()
    assert page.evaluate(shown) == [True, False, True, True]


def test_a_server_that_is_gone_is_said_and_asked_again(visit):
    page = visit.page
    page.route("**/v1/**", lambda route: route.abort())
    visit.choose("a-lamp-000")
    page.locator("#banner").wait_for()
    page.unroute("**/v1/**")
    page.wait_for_function("() => document.getElementById('banner').hidden")
    visit.choose("a-lamp-000")
    page.locator("#pane-id svg.one-hot").wait_for()
    visit.trouble[:] = [said for said in visit.trouble if "ERR_FAILED" not in said]


def test_what_is_saved_meanwhile_is_shown_as_is_a_better_map_and_who_was_there_stays(browser, tmp_path, monkeypatch):
    import hotrow

    def better(self, progress=None):
        return replace(self, points=-self.points, method="umap")

    monkeypatch.setattr(Map, "better", better)
    monkeypatch.setattr("hotrow.serve.better.check_umap", lambda: None)

    lamps(tmp_path / "lamps", 80)
    app = create_app(tmp_path / "lamps", metadata=told, every=0.05)
    with serving(app) as address:
        visit = Visit(browser, address)
        before = Map.open(open_folder(tmp_path / "lamps")).points
        visit.choose("a-lamp-000")
        table = hotrow.load(tmp_path / "lamps")
        table.find(["new lamp"], grow=True)
        stamp = app.following.current().stamp
        table.save_delta(tmp_path / "lamps")
        while app.following.current().stamp == stamp:
            visit.page.wait_for_timeout(50)
        visit.page.evaluate("() => hotrow.page._newer()")
        points = np.array(visit.page.evaluate("() => Array.from(hotrow.page.atlas.points)")).reshape(-1, 2)
        assert len(points) == len(before) + 1
        assert np.array_equal(points[: len(before)].astype(np.float32), before)
        assert visit.heading() == "a-lamp-000"
        visit.page.click("#better")
        visit.page.get_by_text(f"{len(points)} ids, placed by UMAP").wait_for()
        assert visit.page.evaluate("() => hotrow.page.atlas.points[0]") == -points[0, 0]
        assert visit.heading() == "a-lamp-000"
        assert not visit.page.locator("#better").is_visible()
        visit.end()


def test_a_user_is_told_what_it_would_like_and_a_selection_what_goes_with_it(browser, tmp_path):
    from hotrow.models import Retrieval

    users = [f"user {i:02}" for i in range(40) for _ in range(6)]
    items = [f"item {(7 * i + 5 * j) % 12 + 12 * (i % 2):02}" for i in range(40) for j in range(6)]
    model = Retrieval(4, epochs=2, batch_size=64).fit((users, items))
    model.save(tmp_path / "model")
    course = [{"done": i, "epoch": 1 + i // 5, "loss": 2 / (i + 1) if i else None} for i in range(10)]
    report = {
        "model": {"recall@10": 0.5},
        "popularity": {"recall@10": 0.25},
        "course": course,
        "data": "<b>baskets</b>",
    }
    (tmp_path / "model" / "report.json").write_text(json.dumps(report), "utf-8")
    with serving(create_app(tmp_path / "model", token="a secret")) as address:
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.goto(f"{address}#side=user&id=user+01")
        page.locator("dialog input").fill("a guess")
        page.keyboard.press("Enter")
        page.get_by_text("That isn't the token").wait_for()
        page.locator("dialog input").fill("a secret")
        page.keyboard.press("Enter")
        page.wait_for_function(READY)
        page.locator("#pane-id section ol.scored li").nth(9).wait_for()
        opened = open_folder(tmp_path / "model")
        (liked,), _ = opened.model.recommend(["user 01"], k=10)
        assert page.locator("#pane-id section ol.scored .id").all_inner_texts() == list(liked)
        page.locator("#pane-id section button.choose").first.click()  # goes over to the items
        page.wait_for_function("id => document.querySelector('#pane-id h2').innerText === id", arg=liked[0])
        page.get_by_role("button", name="Add to selection").click()
        page.get_by_role("tab", name="Selection").click()
        page.get_by_role("button", name="What goes with these?").click()
        page.locator("#pane-set ol.scored li").nth(9).wait_for()
        (after,), _ = opened.model.recommend_for([[liked[0]]], k=10)
        assert page.locator("#pane-set ol.scored .id").all_inner_texts() == list(after)
        page.get_by_role("tab", name="Model").click()
        assert page.locator("#pane-model .metrics td.number").all_inner_texts() == ["0.500", "0.250"]
        assert page.locator("#pane-model svg.curve").get_attribute("aria-label") == "loss: from 1.000 to 0.200"
        assert "<b>baskets</b>" in page.locator("#pane-model").inner_text()
        context.close()
