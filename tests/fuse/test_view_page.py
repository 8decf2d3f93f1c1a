"""The page itself, driven in a real Chromium: it plays, seeks, and the cursor is at the frame that is on screen."""

import json
import shutil
import threading
import wave
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from extract.media import VideoFile
from fuse.prediction_files import save_predictions
from fuse.recipe import TrainRecipe
from fuse.train import run_train
from fuse.view.data import open_shelf
from fuse.view.server import address, listen, make_app, make_server
from fuse.view.sources import open_sources

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"),
]
HOSTILE = "<img src=x onerror=document.title='stolen'>"
MARKUP = "<script>document.title='stolen'</script>"
RUNS, LONG = 8, 9000
SIZE, BITS = 64, 16  # a picture is a frame's number, a column of 4 pixels a bit

#: The number of the frame on screen, read from its pixels.
ON_SCREEN = f"""
const film = document.getElementById('film'), c = document.createElement('canvas');
c.width = c.height = {SIZE};
const g = c.getContext('2d');
g.drawImage(film, 0, 0, {SIZE}, {SIZE});
const row = g.getImageData(0, {SIZE // 2}, {SIZE}, 1).data;
let number = 0;
for (let bit = 0; bit < {BITS}; bit++) if (row[(bit * 4 + 2) * 4] > 127) number |= 1 << bit;
"""


def picture(number):
    bits = [(number >> b) & 1 for b in range(BITS)]
    return np.repeat(np.repeat(np.array(bits, np.uint8) * 235 + 8, SIZE // BITS)[None, :, None], SIZE, 0).repeat(3, 2)


@pytest.fixture(scope="module")
def corpus(media, tmp_path_factory):
    """Films of uneven frames, with a late picture, without sound, without labels; no film; sound alone; a long one."""
    root, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    tone = lambda s: (0.1 * np.sin(np.arange(int(s * 16_000)) / 9)).astype(np.float32)  # noqa: E731
    uneven = np.cumsum(rng.uniform(0.03, 0.06, 100)) - 0.03
    films = {
        "even": media(root / "even.mp4", np.arange(100) / 25, picture=picture, sound=tone(4)),
        "late": media(root / "late.mp4", 0.5 + uneven, picture=picture, sound=tone(5)),
        "silent": media(root / "silent.mp4", uneven, picture=picture),
        "unlabelled": media(root / "unlabelled.mp4", uneven, picture=picture, sound=tone(4)),
        "long": media(root / "long.mp4", np.arange(LONG) / 30, picture=picture),
    }
    times = {name: VideoFile(path).read_times().pts for name, path in films.items()}
    (root / "apart.mp4").write_bytes((root / "silent.mp4").read_bytes())
    with wave.open(str(root / "apart.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((tone(5) * 32767).astype("<i2").tobytes())
    films["apart"], times["apart"] = root / "apart.mp4", times["silent"]
    films["broken"] = root / "broken.mp4"
    films["broken"].write_text("no film at all")
    times |= {name: np.arange(50) / 25 for name in ("broken", "bare", HOSTILE)}
    return films, times


@pytest.fixture(scope="module")
def shelf(corpus, tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("view"), np.random.default_rng(1)
    films, times = corpus
    cache, labels = FeatureCache.create(root / "cache", "toy"), {}
    for name, pts in times.items():
        count = len(pts)
        cache.timelines.write(name, Timeline(pts, float(pts[-1]) + 0.04))
        spec = cache.declare("face", "visual", 2, {"encoder": "face"}, {})
        cache.write(spec.key, name, Aligned(np.zeros((count, 2), np.float32), np.arange(count) % 40 > 5))
        walk = np.clip(np.cumsum(rng.normal(size=(count, 2)) * 0.05, 0), -1, 1).astype(np.float32)
        if name != "unlabelled":
            labels[name] = Labels(walk, np.arange(count) % 50 > 4)
        for run in range(RUNS):
            save_predictions(root / f"run{run}", name, pts, np.clip(walk + rng.normal(size=walk.shape) * 0.1, -1, 1))
    cache.labels.write("va", labels, Partitions(dict.fromkeys(times, "validation")))
    sources = open_sources([root / f"run{i}" for i in range(RUNS)])
    return open_shelf(
        sources,
        cache,
        media=films,
        sound={"apart": films["apart"].with_suffix(".wav")},
        words=lambda _: [("hello", 0.2, 0.6), (MARKUP, 0.6, 1.0)],
    )


@contextmanager
def served(shelf):
    sock = listen(0)
    server = make_server(make_app(shelf, "token"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    yield address(sock, "token")
    server.should_exit = True
    thread.join()
    sock.close()


@pytest.fixture(scope="module")
def url(shelf):
    with served(shelf) as where:
        yield where


@pytest.fixture(scope="module")
def runs(toy_cache, tmp_path_factory):
    """Runs whose heads look at moments, at streams, correlate, do not look at all; and predictions alone."""
    root = tmp_path_factory.mktemp("looks")
    small = {"epochs": 1, "device": "cpu", "batch_size": 8, "runs": root}
    kinds = {
        "maven": {"d": 16, "d_proj": 24, "d_att": 8},
        "can": {"width": 8},
        "jca": {"width": 8, "k": 4},
        "concat": {},
    }
    windows = {"jca": {"tokens": 4, "hop": 2, "stride": 8}}
    found = [
        run_train(
            TrainRecipe(h, toy_cache.root, options=o, **small, **windows.get(h, {"tokens": 40, "hop": 20})), quiet=True
        )
        for h, o in kinds.items()
    ]
    folders = [Path(run.folder) for run in found]
    shutil.copytree(folders[0] / "predictions" / "validation", root / "files")
    return open_shelf(open_sources([*folders, root / "files"]), toy_cache)


@pytest.fixture(scope="module")
def runs_url(runs):
    with served(runs) as where:
        yield where


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = ["headless=new", "no-sandbox", "disable-dev-shm-usage", "mute-audio", "window-size=1280,900"]
    flags += ["autoplay-policy=no-user-gesture-required", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


class Page:
    """What a user does and sees."""

    def __init__(self, driver, url, shelf):
        self.driver, self.url, self.shelf = driver, url, shelf

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def later(self, script, *args):
        """Runs a script that ends by calling ``done(value)``."""
        return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1]; {script}", *args)

    def until(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 60, 0.05).until(lambda _: self.js(f"return {condition}"))

    def size(self, width, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, name, *, film=True):
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{self.shelf.names.index(name)}")
        self.until(f"document.getElementById('name').textContent === {json.dumps(name)}")
        if film:
            self.until("document.getElementById('film').readyState >= 2")

    def key(self, key, shift=False):
        self.js("dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], shiftKey: arguments[1]}))", key, shift)

    def drag(self, share):
        """Points at a place of the traces, by its share of the axis, and lets go."""
        box = self.js("return document.getElementById('traces').getBoundingClientRect().toJSON()")
        x = box["left"] + 68 + share * (box["width"] - 80)
        point = {"button": "left", "buttons": 1, "clickCount": 1, "y": box["top"] + 50}
        for kind, where in (("mousePressed", x - 30), ("mouseMoved", x), ("mouseReleased", x)):
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": where, **point})

    @property
    def frame(self):
        return int(self.js("return document.getElementById('traces').dataset.frame"))

    def settled(self):
        """(cursor's frame, frame on screen) once the film has followed."""
        self.later("""const film = document.getElementById('film');
            const painted = () => requestAnimationFrame(() => requestAnimationFrame(done));
            const look = () => film.seeking ? requestAnimationFrame(look) : painted();
            look();""")
        return self.frame, self.js(f"{ON_SCREEN} return number")


@pytest.fixture
def page(chromium, url, shelf):
    yield from watched(chromium, url, shelf)


@pytest.fixture
def looks(chromium, runs_url, runs):
    yield from watched(chromium, runs_url, runs)


def watched(chromium, url, shelf):
    """A page of which nothing may be heard in the console, and that asks nobody else for anything."""
    one = Page(chromium, url, shelf)
    one.size(1280)
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    yield one
    wrong = [e["message"] for e in chromium.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert not [m for m in wrong if "media/" not in m], wrong
    events = [json.loads(e["message"])["message"] for e in chromium.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert not [u for u in asked if not u.startswith(url) and not u.startswith(("about:", "data:"))]
    assert chromium.title != "stolen"


def test_the_page_opens_with_its_list_and_the_first_paint_is_quick(page):
    page.open("even")
    rows = page.js("return [...document.querySelectorAll('#list tbody tr')].map(r => r.innerText)")
    assert len(rows) == len(page.shelf.names)
    row = next(r for r in rows if r.startswith("even"))
    ccc = page.shelf.listing["recordings"][page.shelf.names.index("even")]["ccc"][0]
    assert f"{ccc[0]:.2f}".lstrip("0") in row
    paints = []
    for _ in range(3):
        page.open("even")
        paints.append(page.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    print(f"first paint after {[round(p) for p in paints]} ms")
    assert min(paints) < 1000


@pytest.mark.parametrize("name", ["even", "late", "silent", "unlabelled"])
def test_cursor_and_film_show_the_same_frame_wherever_one_seeks(page, name):
    page.open(name)
    assert page.settled() == (0, 0)
    for _ in range(3):
        page.key("ArrowRight")
    assert page.settled() == (3, 3)
    page.key("ArrowLeft")
    assert page.settled() == (2, 2)
    page.key("End")
    assert page.settled() == (99, 99)
    page.key("Home")
    page.key("ArrowRight", shift=True)
    pts = page.shelf.recording(page.shelf.names.index(name))["pts"]
    second = int(np.searchsorted(pts, pts[0] + 1 + 1e-3, "right")) - 1
    assert page.settled() == (second, second)
    for share in (0.31, 0.77, 0.05):
        page.drag(share)
        cursor, screen = page.settled()
        assert cursor == screen
        assert abs(pts[cursor] - (pts[0] + share * (pts[-1] - pts[0]))) < 0.15


@pytest.mark.parametrize("name", ["even", "late"])
def test_while_it_plays_cursor_and_film_agree_within_a_frame(page, name):
    page.open(name)
    page.key(" ")
    pairs = page.later(f"""const found = [], film = document.getElementById('film');
        const look = () => {{
          {ON_SCREEN}
          found.push([Number(document.getElementById('traces').dataset.frame), number]);
          film.paused || found.length > 30 ? done(found) : film.requestVideoFrameCallback(look);
        }};
        film.requestVideoFrameCallback(look);""")
    assert len(pairs) > 3
    assert pairs[-1][0] > pairs[0][0]
    print(f"{name}: cursor and picture, of {len(pairs)} frames: {[a - b for a, b in pairs]}")
    apart = np.abs([a - b for a, b in pairs])  # a busy machine may read a picture later than it was told of
    assert np.mean(apart <= 1) >= 0.9
    page.key(" ")
    page.until("document.getElementById('film').paused")
    cursor, screen = page.settled()
    assert abs(cursor - screen) <= 1
    assert page.js("return document.getElementById('play').getAttribute('aria-label')") == "Play"


def test_sound_of_its_own_follows_the_film(page):
    page.open("apart")
    page.until("document.getElementById('sound').readyState >= 2")
    apart = """Math.abs(document.getElementById('sound').currentTime - document.getElementById('film').currentTime)"""
    page.drag(0.5)
    page.settled()
    page.until(f"{apart} < 0.1")
    page.key(" ")
    page.until("!document.getElementById('sound').paused && document.getElementById('film').currentTime > 2.6")
    assert page.js(f"return {apart}") < 0.2
    assert page.js("return document.getElementById('film').muted && !document.getElementById('sound').muted")
    page.key("m")
    assert page.js("return document.getElementById('sound').muted")
    page.key(" ")
    page.until("document.getElementById('sound').paused")
    page.key("m")


def test_it_works_without_media_and_with_a_file_that_cannot_be_played(page):
    page.open("bare", film=False)
    assert "--root" in page.js("return document.getElementById('nofilm').innerText")
    page.key(" ")
    page.until("Number(document.getElementById('traces').dataset.frame) > 5")
    page.key(" ")
    page.key("Home")
    assert page.frame == 0
    page.open("broken", film=False)
    page.until("document.getElementById('nofilm').innerText.includes('cannot play')")
    page.key("ArrowRight")
    assert page.frame == 1


def test_runs_are_switched_lists_sorted_filtered_and_walked_by_keys(page):
    page.open("even")
    pressed = "return [...document.querySelectorAll('#legend button')].map(b => b.getAttribute('aria-pressed'))"
    assert page.js(pressed) == ["true"] * 4 + ["false"] * 4
    columns = "return document.querySelectorAll('#list thead th').length"
    before, image = page.js(columns), "return document.querySelector('#traces canvas').toDataURL()"
    drawn = page.js(image)
    page.key("1")
    assert page.js(pressed)[0] == "false"
    assert page.js(columns) == before - 2
    assert page.js(image) != drawn
    page.key("1")
    assert page.js(image) == drawn
    page.js("document.querySelectorAll('#list thead button')[1].click()")
    shown = page.js("return [...document.querySelectorAll('#list tbody tr')].map(r => Number(r.dataset.number))")
    ccc = [page.shelf.listing["recordings"][n]["ccc"][0] for n in shown]
    values = [c[0] for c in ccc if c]
    assert values == sorted(values, reverse=True)
    assert ccc[-1] is None  # without labels, so at the end
    page.js("document.querySelector(`[data-number='${arguments[0]}']`).click()", shown[0])
    page.until(f"document.querySelector('#list [aria-current]').dataset.number === '{shown[0]}'")
    page.key("j")
    page.until(f"document.querySelector('#list [aria-current]').dataset.number === '{shown[1]}'")
    page.key("k")
    page.until(f"document.querySelector('#list [aria-current]').dataset.number === '{shown[0]}'")
    page.key("/")
    assert page.js("return document.activeElement.id") == "filter"
    page.driver.switch_to.active_element.send_keys("silen")
    page.until("document.querySelectorAll('#list tbody tr').length === 1")
    page.driver.switch_to.active_element.send_keys("\ue007")
    page.until("document.getElementById('name').textContent === 'silent'")
    page.key("?")
    assert page.js("return document.getElementById('help').open")


def test_keys_work_after_a_click_and_focus_stays_for_who_uses_keys_alone(page):
    page.open("even")
    number = page.shelf.names.index("silent")
    page.driver.find_element("css selector", f"[data-number='{number}'] button").click()
    page.until(
        "document.getElementById('name').textContent === 'silent' && document.getElementById('film').readyState > 2"
    )
    page.driver.switch_to.active_element.send_keys(" ")
    page.until("!document.getElementById('film').paused")
    page.driver.switch_to.active_element.send_keys(" ")
    page.until("document.getElementById('film').paused")
    for where in ("#legend button:nth-child(1)", "#list thead button"):
        page.js(f"document.querySelector({where!r}).focus()")
        page.driver.switch_to.active_element.send_keys("\ue007")
        assert page.js(f"return document.activeElement === document.querySelector({where!r})")


def test_markup_in_ids_and_words_is_text(page):
    page.open(HOSTILE, film=False)
    for _ in range(20):
        page.key("ArrowRight")
    assert page.js("return document.querySelector('#words .now').textContent") == MARKUP
    assert page.js("return document.querySelectorAll('img, script:not([src])').length") == 0
    assert HOSTILE in page.js("return document.title")


def test_what_is_missing_is_said(page):
    page.open("unlabelled")
    assert "No frame is annotated" in page.js("return document.getElementById('notes').innerText")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_narrow_and_wide_light_and_dark(page, theme):
    feature = {"name": "prefers-color-scheme", "value": theme}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for width in (1280, 390):
        page.size(width)
        page.open("even")
        assert page.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        box = page.js("return document.querySelector('#traces canvas').getBoundingClientRect().toJSON()")
        assert box["right"] <= width
        assert page.js("return document.documentElement.dataset.theme") == theme
    page.js("document.getElementById('menu').click()")
    assert page.js("return document.getElementById('list').checkVisibility()")
    page.js("document.querySelector('#list tbody tr').click()")
    assert not page.js("return document.getElementById('list').checkVisibility()")
    page.size(1280)
    page.later("requestAnimationFrame(() => requestAnimationFrame(done))")
    assert page.js("return document.getElementById('list').checkVisibility()")
    page.key("t")
    assert page.js("return document.documentElement.dataset.theme") != theme
    page.key("t")
    page.js("localStorage.clear()")


def test_scrubbing_nine_thousand_frames_of_eight_runs_is_smooth(page):
    page.open("long")
    for run in range(5, RUNS + 1):
        page.key(str(run))
    work, gaps = page.later("""
        const root = document.getElementById('traces'), box = root.getBoundingClientRect(), work = [], gaps = [];
        const send = (type, x) => root.dispatchEvent(new PointerEvent(type, {pointerId: 1, bubbles: true,
          clientX: box.left + x, clientY: box.top + 60}));
        let last = null, i = 0;
        send('pointerdown', 80);
        const step = (now) => {
          if (last !== null) gaps.push(now - last);
          last = now;
          const begun = performance.now();
          send('pointermove', 80 + (box.width - 100) * (0.5 + 0.5 * Math.sin(i / 15)));
          work.push(performance.now() - begun);
          if (++i < 180) requestAnimationFrame(step);
          else { send('pointerup', 200); done([work, gaps]); }
        };
        requestAnimationFrame(step);""")
    page.js(
        "const t = performance.now(); document.getElementById('whole').click(); window.whole = performance.now() - t"
    )
    drawn = page.js("return window.whole")
    told = [f"{np.median(x):.1f} ms, 95% {np.percentile(x, 95):.1f}, most {max(x):.1f}" for x in (work, gaps)]
    print(f"scrubbing: own work {told[0]}; between frames {told[1]}; to draw all lines {drawn:.1f} ms")
    assert np.percentile(work, 95) < 50
    assert np.median(gaps) < 50
    cursor, screen = page.settled()
    assert cursor == screen


def choose(page, run):
    page.js(
        """const s = document.querySelector('#maps select');
        s.value = arguments[0]; s.dispatchEvent(new Event('change'));""",
        run,
    )


FIRST_LABEL = "(document.querySelector('#maps canvas')?.getAttribute('aria-label') ?? '')"
NOTE = "document.querySelector('#maps .note').textContent"
MAPS = "performance.getEntriesByType('resource').filter(r => r.name.includes('/maps/')).length"


def test_attention_opens_on_request_and_follows_the_cursor(looks):
    looks.open("rec5", film=False)
    inside = "return document.querySelector('#maps .inside').checkVisibility()"
    assert not looks.js(inside)
    assert looks.js(f"return {MAPS}") == 0
    looks.key("a")
    looks.until(f"{FIRST_LABEL}.includes('At 0:00.00')")
    assert looks.js(inside)
    titles = looks.js("return [...document.querySelectorAll('#maps figcaption')].map(f => f.textContent)")
    assert titles[:2] == ["face at voice", "face at words"]
    assert len(titles) == 6 + 3 + 2
    assert "0:00.00 to 0:01.56" in looks.js(f"return {NOTE}")
    image = "return document.querySelector('#maps canvas').toDataURL()"
    before = looks.js(image)
    for _ in range(5):
        looks.key("ArrowRight")
    looks.until(f"{FIRST_LABEL}.includes('At 0:00.20')")
    assert looks.js(image) != before
    assert looks.js(f"return {MAPS}") == 1  # it is the same window
    for _ in range(6):
        looks.key("ArrowRight")
    looks.until("document.querySelector('#maps figure p').textContent === 'now: nothing there'")  # no face in frame 11
    looks.key("End")
    looks.until(f"{FIRST_LABEL}.includes('At 0:04.96')")
    assert "to 0:04.96" in looks.js(f"return {NOTE}")
    looks.js("document.querySelector('#maps h2 button').click()")
    assert not looks.js(inside)


def test_attention_of_another_run_and_of_one_that_has_none(looks):
    looks.open("rec5", film=False)
    looks.key("a")
    looks.until(f"{FIRST_LABEL}.includes('face at voice')")
    choose(looks, 1)
    looks.until("document.querySelectorAll('#maps .strips canvas').length === 1")
    looks.until(f"{FIRST_LABEL}.includes('now face')")
    choose(looks, 2)
    looks.until(f"{FIRST_LABEL}.includes('face with itself')")
    assert "no weights" in looks.js("return document.querySelector('#maps .means').textContent")
    choose(looks, 3)
    looks.until(f"{NOTE} === 'This head (concat on face, voice, words) has no attention to show.'")
    assert looks.js("return document.querySelectorAll('#maps canvas').length") == 0
    choose(looks, 4)
    looks.until(f"{NOTE}.includes('predictions alone')")
    looks.key("j")
    looks.until("document.getElementById('name').textContent === 'rec6'")
    choose(looks, 0)
    looks.until(f"{FIRST_LABEL}.includes('At 0:00.00')")
    looks.js("document.querySelector('#maps select').focus()")
    looks.driver.switch_to.active_element.send_keys("\ue015")  # an arrow chooses a run, and moves no cursor
    looks.until("document.querySelectorAll('#maps .strips').length === 1")
    assert looks.frame == 0


def test_a_press_on_a_map_goes_to_the_moment_that_looks(looks):
    looks.open("rec5", film=False)
    looks.key("a")
    looks.until(f"{FIRST_LABEL}.includes('At 0:00.00')")
    looks.js("""const c = document.querySelector('#maps canvas'), b = c.getBoundingClientRect();
        c.dispatchEvent(new MouseEvent('click', {clientX: b.left + 9, clientY: b.top + b.width * 0.51}))""")
    assert looks.frame == 20  # of 40


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_attention_narrow_and_wide_light_and_dark(looks, theme):
    feature = {"name": "prefers-color-scheme", "value": theme}
    looks.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for width in (1280, 390):
        looks.size(width)
        looks.open("rec5", film=False)
        looks.key("a")
        for run, there in ((0, "face at voice"), (1, "now face"), (2, "face with itself")):
            choose(looks, run)
            looks.until(f"{FIRST_LABEL}.includes('{there}')")
            looks.later("requestAnimationFrame(() => requestAnimationFrame(done))")
            assert looks.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            boxes = looks.js("""return [...document.querySelectorAll('#maps canvas')].map(c => {
                const b = c.getBoundingClientRect(); return [b.left, b.right, b.width, b.height, c.width]; })""")
            assert all(left >= 0 and right <= width for left, right, *_ in boxes)
            assert all(abs(wide - pixels) <= 1 for _, _, wide, _, pixels in boxes)
    looks.size(1280)
