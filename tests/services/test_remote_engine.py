"""Handle calls as pending results, without a cluster: errors come out as ours."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from atts_core.engine import Generate, Rate, Sampling, ScriptedEngine, encode_characters
from atts_core.errors import EngineError, EngineUnavailable, PromptTooLong, ScoreMissing
from atts_core.types import History
from services.http_errors import described
from services.remote_engine import SENDS, RemoteCall, RemoteEngine, translated


def raised_remotely(cause: Exception) -> RayTaskError:
    """The error as a handle call raises it: the cause, with the replica's traceback around it."""
    error: RayTaskError = RayTaskError("score", "Traceback …", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    "cause",
    [ScoreMissing("no log-probabilities"), PromptTooLong("300 tokens", field="messages")],
)
def test_our_own_errors_cross_the_process_border_as_they_are(cause: Exception) -> None:
    out = translated(raised_remotely(cause), "target")
    assert type(out) is type(cause)
    assert str(out) == str(cause)
    assert getattr(out, "field", None) == getattr(cause, "field", None)


def test_a_lost_replica_is_unavailable_and_may_be_tried_again() -> None:
    assert isinstance(translated(ActorDiedError(), "target"), EngineUnavailable)


def test_a_full_queue_is_unavailable_and_its_client_may_come_again() -> None:
    error = BackPressureError(num_queued_requests=3, max_queued_requests=2, retry_after_s=2.5)
    out = pickle.loads(pickle.dumps(translated(error, "target")))
    assert isinstance(out, EngineUnavailable)
    status, body, headers = described(out)
    assert (status, headers["Retry-After"]) == (429, "3")
    assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "overloaded")


def test_any_other_failure_names_the_engine_in_one_line() -> None:
    out = translated(raised_remotely(ValueError("odd\nthing")), "target")
    assert type(out) is EngineError
    assert str(out) == "target: ValueError: odd"


class Response:
    """A handle's response: awaitable, cancellable."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.cancelled = False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        self.cancelled = True


def sent(*outcomes: Any) -> RemoteCall[int]:
    """A call whose first, second, … sending has these outcomes."""
    responses = iter(outcomes)
    return RemoteCall(lambda: Response(next(responses)), "draft")


async def test_a_call_is_done_when_it_has_an_outcome() -> None:
    call: RemoteCall[int] = RemoteCall(lambda: Response(5), "draft")
    assert not call.done()
    assert await call == 5
    assert call.done()


async def test_a_failed_call_is_done_and_raises_ours() -> None:
    call: RemoteCall[int] = sent(raised_remotely(ScoreMissing("none")))
    with pytest.raises(ScoreMissing):
        await call
    assert call.done()


async def test_cancelling_reaches_the_replica() -> None:
    response = Response(5)
    RemoteCall[int](lambda: response, "draft").cancel()
    assert response.cancelled


async def test_who_leaves_while_a_prompt_is_rendered_cancels_the_call() -> None:
    class Waits(Response):
        def __await__(self) -> Any:
            yield from asyncio.Event().wait().__await__()

    calls: list[Response] = []

    class Handle:
        """A handle whose replica never answers."""

        def options(self, **options: Any) -> Handle:
            return self

        @property
        def render(self) -> Handle:
            return self

        def remote(self, *arguments: Any) -> Response:
            calls.append(Waits(None))
            return calls[-1]

    known = ScriptedEngine(lambda seen, request: "").capabilities
    engine = RemoteEngine(Handle(), known)  # type: ignore[arg-type]
    rendering = asyncio.create_task(engine.render([]))
    while not calls:
        await asyncio.sleep(0)
    rendering.cancel()
    await asyncio.gather(rendering, return_exceptions=True)
    assert calls[0].cancelled


def upstream_lost() -> RayServeException:
    """How Serve says that the replica died whose result the call was to be given."""
    error = RayServeException("an upstream actor died")
    error.__cause__ = ActorDiedError()
    return error


@pytest.mark.parametrize(
    "lost", [ActorDiedError(), ActorUnavailableError("", None), upstream_lost()]
)
async def test_a_call_lost_with_its_replica_is_sent_again(lost: BaseException) -> None:
    call = sent(lost, 5)
    assert await call == 5
    assert call.done()


async def test_what_waits_for_a_lost_call_is_sent_again_with_it() -> None:
    """Serve would try for ever to hand on what was lost."""
    lost = asyncio.Event()

    class Stuck(Response):
        def __await__(self) -> Any:
            yield from lost.wait().__await__()
            raise ActorUnavailableError("", None)

        def cancel(self) -> None:
            super().cancel()
            lost.set()

    stuck = Stuck(None)
    drafting = sent(ActorUnavailableError("", None), 5)
    responses = iter([stuck, Response(7)])
    scoring: RemoteCall[int] = RemoteCall(lambda: next(responses), "target")
    drafting.feeds(scoring)
    assert await asyncio.gather(scoring, drafting) == [7, 5]
    assert stuck.cancelled


async def test_what_is_over_is_not_sent_again_with_a_lost_call() -> None:
    drafting = sent(ActorUnavailableError("", None), 5)
    scoring = sent(7)
    drafting.feeds(scoring)
    scoring.cancel()
    assert await drafting == 5


async def test_a_call_is_not_sent_for_ever() -> None:
    with pytest.raises(EngineUnavailable):
        await sent(*[ActorDiedError()] * SENDS, 5)


class Handle:
    """A deployment handle whose every call comes to the same."""

    def __init__(self, outcome: Any) -> None:
        self.generate = self.score = self
        self._outcome = outcome

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *_: Any) -> Response:
        return Response(self._outcome)


async def test_a_lost_call_names_model_and_request() -> None:
    capabilities = ScriptedEngine(lambda seen, request: "", name="large").capabilities
    engine = RemoteEngine(Handle(ActorDiedError()), capabilities)
    history = History(encode_characters("?"))
    drafting = engine.generate(Generate("c7", history, 5, Sampling(), 0))
    with pytest.raises(EngineUnavailable, match=r"^large, c7: the replica was lost"):
        await drafting
    with pytest.raises(EngineUnavailable, match=r"^large, c7: the replica was lost"):
        await engine.score(Rate("c7", history), drafting)


async def test_a_call_that_failed_by_itself_is_not_sent_again() -> None:
    with pytest.raises(ScoreMissing):
        await sent(raised_remotely(ScoreMissing("none")), 5)


async def test_a_cancelled_call_is_not_sent_again() -> None:
    call = sent(ActorDiedError(), 5)
    call.cancel()
    with pytest.raises(EngineUnavailable):
        await call
