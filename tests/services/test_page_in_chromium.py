"""The page in a real Chromium, over the embedded pair and over scripted engines that misbehave.

Screenshots are left in artifacts/page, to be looked at.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from atts_core.engine import Generate, Line
from atts_core.errors import EngineUnavailable
from services import serve_config
from services.access import hashed
from services.local import LocalBackend, local_backend
from tests.services.conftest import ANSWER, backend

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.serve,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
SHOTS = Path(__file__).resolve().parents[2] / "artifacts" / "page"
QUESTION = "Start with 47. Add 38. Multiply by 3. Subtract 60. Add 77. What is the result?"


LANDMARKS = [
    ("banner", None),
    ("main", None),
    ("region", "Ask a question"),
    ("region", "Runs"),
    ("complementary", "Live state"),
]
"""What a screen reader offers to jump to."""


class Listening(Protocol):
    def __call__(self, backend: LocalBackend) -> AbstractAsyncContextManager[str]: ...


class Watched:
    """A page, with what it said on the console and where its requests went."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.expected: tuple[str, ...] = ()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def ask(self, question: str, **fields: str) -> None:
        for name, value in fields.items():
            await self.page.fill(f"#{name}", value)
        await self.page.fill("#question", question)
        await self.page.press("#question", "Enter")

    async def finished(self, runs: int = 1) -> None:
        await self.see(".run[data-status=finished]", runs)

    async def told(self, words: str) -> None:
        """The run says so in its place for trouble."""
        trouble = self.page.locator(".run .trouble")
        await playwright.expect(trouble).to_contain_text(words, timeout=30_000)

    async def see(self, selector: str, count: int = 1) -> None:
        await playwright.expect(self.page.locator(selector)).to_have_count(count, timeout=30_000)

    async def shot(self, name: str) -> None:
        await self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def require_calm(self) -> None:
        """No error but the `expected` ones, and no request to another host."""
        unexpected = [
            said for said in self.complaints if not any(known in said for known in self.expected)
        ]
        assert unexpected == []
        assert self.requests
        assert [url for url in self.requests if not url.startswith(self.url + "/")] == []


class Cable:
    """A socket before the server: it can be cut in the middle of a stream, and lead elsewhere."""

    def __init__(self) -> None:
        self.to: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self.cut()
            await asyncio.gather(*self._tasks)

    def cut(self, *, both: bool = True) -> None:
        """Every connection ends; the server does not see it unless `both`."""
        for writer in (*self._near, *(self._far if both else ())):
            writer.transport.abort()

    async def _joined(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.to is None:
            near.transport.abort()
            return
        to = urlsplit(self.to)
        back, far = await asyncio.open_connection(to.hostname, to.port)
        self._near.add(near)
        self._far.add(far)
        await asyncio.gather(self._carry(reader, far), self._carry(back, near))
        self._near.discard(near)
        self._far.discard(far)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes in goes out; an end that was cut off swallows it."""
        try:
            while some := await reader.read(65_536):
                if not writer.transport.is_closing():
                    writer.write(some)
                    await writer.drain()
        except ConnectionError:
            return
        if writer in self._near:
            writer.close()


@asynccontextmanager
async def opened(url: str, path: str = "/", **context: Any) -> AsyncIterator[Watched]:
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        wanted = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"} | context
        page = await (await browser.new_context(**wanted)).new_page()
        watched = Watched(page, url)
        await page.goto(url + path)
        yield watched
        watched.require_calm()
        await browser.close()


async def test_a_question_is_asked_watched_opened_again_stepped_through_and_compared(
    listening: Listening,
) -> None:
    settings = serve_config.load(serve_config.LOCAL).settings
    async with local_backend(settings) as pair, listening(pair) as url:
        async with opened(url) as watched:
            page = watched.page
            await watched.see(".health[data-state=up]")
            await watched.shot("welcome")
            for role, name in LANDMARKS:
                landmark = page.get_by_role(role, name=name)
                await playwright.expect(landmark).to_have_count(1)
            await watched.ask(QUESTION, seed="1")
            await watched.see(".lane", 8)
            await playwright.expect(page.locator(".chip.target").first).to_be_visible()
            await watched.finished()
            await playwright.expect(page.locator(".answer .value math mn")).to_have_text("272")
            await watched.see(".lane.speaks")
            assert await page.locator("del.chip").count() > 0
            assert await page.locator(".gate.accepted .p").count() > 0
            assert await page.locator('.lane[data-state="not needed"]').count() > 0
            await watched.see(".side .nominal >> nth=0")
            assert await page.locator(".stages li").count() >= 5
            await watched.shot("light")

            light = await page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor"
            )
            await page.click("#theme")
            await page.reload()
            await watched.finished()
            dark = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert light != dark, "the theme that was chosen stays"
            await page.click(".who >> nth=1")
            await watched.see(".details table")
            await watched.shot("dark")
            link = page.url.removeprefix(url)
            assert link.startswith("/?run=chatcmpl-")

            await page.goto(url)
            await page.select_option("#other", "atts:target-only")
            await watched.ask(QUESTION, seed="1")
            await watched.finished(2)
            await playwright.expect(page.locator(".answer .value")).to_have_text(["272", "272"])
            assert page.url.count("run=") == 2
            await watched.shot("two")

        async with opened(url, link, viewport={"width": 390, "height": 844}) as watched:
            page = watched.page
            await watched.finished()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            await watched.shot("phone")
            slider = page.locator(".stepper input")
            last = await slider.input_value()
            await slider.focus()
            await page.keyboard.press("Home")
            await watched.see(".chip", 0)
            for _ in range(12):
                await page.keyboard.press("ArrowRight")
            assert await slider.input_value() == "12"
            await playwright.expect(page.locator(".answer .value math")).to_have_count(0)
            await page.keyboard.press("End")
            assert await slider.input_value() == last
            await playwright.expect(page.locator(".answer .value")).to_have_text("272")


MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


async def test_markup_in_questions_and_chains_is_shown_and_never_executed(
    listening: Listening,
) -> None:
    said = MARKUP + r" $\frac{1}{2}$ \constructor \boxed{\frac{1}{<b>2</b>}}"
    async with listening(backend(lambda seen, request: said)) as url, opened(url) as watched:
        question = MARKUP + "?" * (10_000 - len(MARKUP))
        await watched.ask(question)
        await watched.finished()
        assert await watched.page.text_content(".question") == question
        assert MARKUP in (await watched.page.text_content(".chip .text") or "")
        assert await watched.page.locator(".run img, .run script, .run b:not(.who b)").count() == 0
        assert await watched.page.title() == "ATTS"
        assert await watched.page.locator(".chip mfrac").count() > 0
        await watched.shot("markup")


async def test_the_page_says_what_failed_in_the_middle(listening: Listening) -> None:
    def draft(seen: str, request: Generate) -> str:
        if "step" in seen:
            raise EngineUnavailable("the draft's replica is gone")
        return "step\n\n"

    served = backend(draft, lambda seen, request: "step\n\n")
    async with listening(served) as url, opened(url) as watched:
        await watched.ask("1 + 1?")
        await watched.see(".run[data-status=failed]")
        trouble = watched.page.locator(".run .trouble")
        await playwright.expect(trouble).to_contain_text("the draft's replica is gone")
        await watched.see('.lane[data-state="failed"] >> nth=0')
        await watched.shot("failed")


async def test_a_refused_question_is_refused_in_the_server_s_words(listening: Listening) -> None:
    async with listening(backend()) as url, opened(url) as watched:
        watched.expected = ("status of 400",)
        await watched.ask("1 + 1?", candidates="1000")
        await watched.see(".run[data-status=refused]")
        await playwright.expect(watched.page.locator(".run .trouble")).to_contain_text(
            "limits.max_candidates"
        )


async def test_a_key_is_asked_for_once_and_a_wrong_one_again(listening: Listening) -> None:
    keys = {"keys": [{"name": "ann", "sha256": hashed("right")}]}
    async with listening(backend(access=keys)) as url, opened(url) as watched:
        watched.expected = ("status of 401",)
        page = watched.page
        await playwright.expect(page.locator("#key-why")).to_contain_text("API key only")
        await watched.shot("key")
        await page.fill("#key-field", "wrong")
        await page.keyboard.press("Enter")
        await playwright.expect(page.locator("#key-why")).to_contain_text("does not know")
        await page.fill("#key-field", "right")
        await page.keyboard.press("Enter")
        await watched.see(".health[data-state=up]")
        await watched.ask("1 + 1?")
        await watched.finished()
        assert await page.evaluate("localStorage.length") == 0
        await page.reload()
        await watched.finished()


async def test_a_live_run_is_followed_by_its_link_and_stopped_from_there(
    listening: Listening,
) -> None:
    served = backend(lambda seen, request: Line("step", ticks=10**9))
    async with listening(served) as url, opened(url) as first, opened(url) as second:
        await first.ask("1 + 1?", candidates="1")
        await first.page.wait_for_url("**/?run=*")
        await second.page.goto(first.page.url)
        await second.see(".run[data-status=running]")
        await second.page.click(".run header button")
        await first.see(".run[data-status=cancelled]")
        await second.see(".run[data-status=cancelled]")


async def test_a_run_is_found_again_when_the_server_has_come_back(listening: Listening) -> None:
    """While the application starts or stops, Serve's proxy says 404 in plain text."""
    async with listening(backend()) as url, opened(url) as watched:
        await watched.ask("1 + 1?")
        await watched.finished()
        await playwright.expect(watched.page).to_have_url(re.compile(r"\?run="))
        link = watched.page.url
        watched.expected = ("status of 404",)
        refused = 0

        async def not_there(route: Any) -> None:
            nonlocal refused
            refused += 1
            if refused > 2:
                await route.continue_()
            else:
                await route.fulfill(status=404, content_type="text/plain", body="Path not found")

        await watched.page.route("**/v1/atts/runs/**", not_there)
        await watched.page.goto(link)
        await playwright.expect(watched.page.locator(".run .trouble")).to_contain_text(
            "starting or stopping"
        )
        await watched.finished()
        assert refused == 3


async def test_a_run_that_nobody_knows_and_a_lost_server_are_said(listening: Listening) -> None:
    async with listening(backend()) as url, opened(url, "/?run=chatcmpl-unknown") as watched:
        watched.expected = ("status of 404", "ERR_")
        await watched.see(".run[data-status=lost]")
        await watched.page.context.set_offline(True)
        await watched.ask("1 + 1?")
        await watched.see(".run[data-status=refused]")
        trouble = watched.page.locator(".run .trouble")
        await playwright.expect(trouble).to_contain_text("cannot be reached")


def endless(seen: str, request: Generate) -> Line | str:
    """Two segments, then one that takes for ever."""
    written = seen.partition("<assistant>")[2].count("\n\n")
    return "more\n\n" if written < 2 else Line("hm", ticks=10**9)


def unending() -> LocalBackend:
    return backend(endless, endless, method={"takeover_rate": 1e-6})


class Held:
    """A draft that writes step after step until it is let go."""

    def __init__(self) -> None:
        self.go = False

    def __call__(self, seen: str, request: Generate) -> Line | str:
        return ANSWER if self.go else Line("step\n\n", ticks=1_000)


async def test_a_stream_cut_in_the_middle_goes_on_at_the_run_s_address(
    listening: Listening,
) -> None:
    """Only the page's end is cut: the server goes on writing, as it does behind some proxies."""
    draft = Held()
    served = backend(draft, method={"turns": 60, "takeover_rate": 1e-6})
    cable = Cable()
    async with listening(served) as url:
        cable.to = url
        async with cable.laid() as near, opened(near) as watched:
            watched.expected = ("ERR_",)
            await watched.ask("1 + 1?", candidates="2")
            await watched.see(".chip >> nth=1")
            cable.cut(both=False)
            draft.go = True
            await watched.finished()
            assert len(served.runs._here) == 1, "it is the same run"
            await watched.see(".lane", 2)
            await playwright.expect(watched.page.locator(".run .trouble")).to_be_hidden()


@asynccontextmanager
async def in_the_middle(listening: Listening) -> AsyncIterator[tuple[Cable, Watched]]:
    """A run that would never end, and the cable to its server."""
    cable = Cable()
    async with listening(unending()) as url:
        cable.to = url
        async with cable.laid() as near, opened(near) as watched:
            watched.expected = ("ERR_",)
            await watched.ask("1 + 1?", candidates="2")
            await watched.see(".chip >> nth=3")
            yield cable, watched


async def test_a_run_that_lost_its_page_says_why_it_ended(listening: Listening) -> None:
    async with in_the_middle(listening) as (cable, watched):
        cable.cut()
        await watched.see(".run[data-status=cancelled]")
        await watched.told("nobody waited for it any more")
        await watched.see('.lane[data-state="cancelled"], .lane[data-state="cut off"]', 2)
        await watched.shot("lost-connection")


async def test_a_server_that_stops_in_the_middle_and_comes_back_without_the_run(
    listening: Listening,
) -> None:
    cable = Cable()
    async with AsyncExitStack() as first, cable.laid() as near:
        cable.to = await first.enter_async_context(listening(unending()))
        async with opened(near) as watched:
            watched.expected = ("ERR_", "status of 404")
            await watched.ask("1 + 1?", candidates="2")
            await watched.see(".chip >> nth=3")
            cable.to = None
            cable.cut()
            await first.aclose()
            await watched.told("Trying again")
            await playwright.expect(watched.page.locator(".side")).to_contain_text(
                "The server does not answer.", timeout=30_000
            )
            await watched.shot("server-away")
            async with listening(backend()) as url:
                cable.to = url
                await watched.see(".run[data-status=lost]")
                await watched.told("it was restarted")
                await watched.see('.lane[data-state="cut off"]', 2)
                await watched.see(".health[data-state=up]")
                await watched.shot("cut-off")
                cable.cut()


async def test_a_graceful_stop_is_told_by_the_stream_itself(listening: Listening) -> None:
    served = unending()
    async with listening(served) as url, opened(url) as watched:
        await watched.ask("1 + 1?", candidates="2")
        await watched.see(".chip >> nth=3")
        await served.runs._end_all()
        await watched.see(".run[data-status=cancelled]")
        await watched.told("stopped or restarted in the middle of the run")


async def test_another_question_while_a_lost_run_is_looked_for(listening: Listening) -> None:
    """What waits for the next look is hung up on, without an error nobody catches."""
    async with in_the_middle(listening) as (cable, watched):
        url, cable.to = cable.to, None
        cable.cut()
        await watched.told("Trying again")
        cable.to = url
        await watched.ask("2 + 2?", candidates="1")
        await watched.see(".run[data-status=running]")
        await watched.see(".lane", 1)


async def test_without_a_history_the_page_says_so(listening: Listening) -> None:
    served = backend(runs={"history": False})
    async with listening(served) as url, opened(url) as watched:
        await watched.ask("1 + 1?")
        await watched.finished()
        await playwright.expect(watched.page).to_have_url(re.compile(r"\?run="))
        await watched.page.reload()
        await watched.see(".run[data-status='not kept']")
        await watched.told("the server keeps no history of runs")
        await watched.shot("no-history")


async def key_is_gone(page: playwright.Page) -> None:
    """Until the page keeps no key any more."""
    async with asyncio.timeout(10):
        while await page.evaluate("sessionStorage.getItem('atts.key')") is not None:
            await asyncio.sleep(0.05)


async def test_a_wrong_key_from_the_button_goes_again_and_none_removes_it(
    listening: Listening,
) -> None:
    keys = {"keys": [{"name": "ann", "sha256": hashed("right")}]}
    async with listening(backend(access=keys)) as url, opened(url) as watched:
        watched.expected = ("status of 401", "ERR_")
        page = watched.page
        why = playwright.expect(page.locator("#key-why"))
        await why.to_contain_text("API key only")
        await page.click("#key-cancel")
        await page.click("#key")
        await page.fill("#key-field", "wrong")
        await page.keyboard.press("Enter")
        await why.to_contain_text("does not know")
        await page.click("#key-cancel")
        await playwright.expect(page.locator("#health")).to_contain_text("key")
        await key_is_gone(page)
        await page.click("#key")
        await page.fill("#key-field", "right")
        await page.keyboard.press("Enter")
        await watched.see(".health[data-state=up]")
        await page.context.set_offline(True)
        await page.click("#key")
        await page.keyboard.press("Enter")
        await playwright.expect(page.locator("#health")).to_contain_text("reach")
        await key_is_gone(page)  # an empty field removes it


BLOCKED = """for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
"""


async def test_a_browser_that_keeps_nothing_shows_the_page_all_the_same(
    listening: Listening,
) -> None:
    keys = {"keys": [{"name": "ann", "sha256": hashed("right")}]}
    async with listening(backend(access=keys)) as url, opened(url) as watched:
        watched.expected = ("status of 401",)
        page = watched.page
        await page.add_init_script(BLOCKED)
        await page.reload()
        await page.fill("#key-field", "right")
        await page.keyboard.press("Enter")
        await page.click("#theme")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        await watched.ask("1 + 1?")
        await watched.finished()


async def test_a_long_question_s_characters_are_counted_as_they_are(listening: Listening) -> None:
    async with listening(backend()) as url, opened(url) as watched:
        await watched.page.fill("#question", "?" * 120_000)
        await playwright.expect(watched.page.locator("#counter")).to_have_text("120,000 characters")
