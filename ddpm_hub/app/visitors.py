"""Visitors: who somebody is to a server that knows no names, whose turn it is, who has gone.

In the room: Gradio's queue with a limit for each visitor instead of one for all, an order that is
fair, and an end for what nobody listens to. Not in the room: bytes and paths (gate.py), what one
run may cost (limits.py).

A visitor is a session within an address. A new session is free, so an address has limits of its
own; they are wide, since a school or an office is one address. What is fair does not depend on the
limits: addresses take turns, and so do sessions within one, so that whoever asks for much waits for
everybody who asks for little.

Over 300 lines: who, whose turn and who listens are three parts of one queue.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from functools import lru_cache
from itertools import chain, count, zip_longest
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.context import LocalContext
from gradio.queueing import Event, EventQueue, Queue
from gradio.utils import run_coro_in_background

from ddpm_hub.app.sessions import Sessions
from ddpm_hub.errors import ConfigError

HEAVY = ("gpu", "sample")  # the lanes of what computes: see tabs/common.py, sample_api.py
RUNS_EACH = 2  # of one session: one is drawn, one waits, whatever tab they are from
RUNS_HERE = 32  # of one address: a class of thirty, each with a run
EVENTS_EACH = 16  # of one session, light ones with them: a page has a few at a time
EVENTS_HERE = 160  # of one address
EVENTS = 2048  # of all: what is left when somebody has hundreds of addresses
BYTES_HERE = 64_000_000  # that the waiting events of one address hold in memory
UNHEARD = 5.0  # seconds that a run goes on while nobody listens: who asks listens within one
FORGOTTEN = 60.0  # seconds that answers are kept for a program that asks for them later
REMEMBERED = 4096  # visitors whose last turn is known

MINE = "one run of yours is being drawn and one waits: let one end, or stop it, then ask again"
OURS = (
    "{0} runs of your address ({1}) wait already, {2} is the most: ask again when some have ended"
)
MANY = "{0} requests from here are being answered already, {1} is the most: wait for some of them"
FULL = "the server has {0:,} requests waiting, it takes no more: ask again in a minute"


# ---- who ----------------------------------------------------------------------------------------
def address_of(scope: dict[str, Any]) -> str:
    """The network address of a request's sender; of IPv6 the part that a household has, /64.

    Behind the proxy of a Space it is the last public address in X-Forwarded-For: that one the proxy
    wrote, those before it are whatever the sender says. Elsewhere the header counts for nothing
    here; uvicorn believes it of a proxy on this machine.
    """
    address = (scope.get("client") or ("nowhere", 0))[0]
    if "SPACE_ID" in os.environ:
        address = _forwarded(scope.get("headers") or []) or address
    return _network(address)


def here() -> str:
    """Within an event: the address of who asks. "" where nobody does."""
    request = LocalContext.request.get(None)
    return "" if request is None else address_of(request.request.scope)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    for one in reversed(said.decode("latin-1").split(",")):
        if _is_public(one.strip()):
            return one.strip()
    return None


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


@lru_cache(4096)
def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _home(event: Event) -> str:
    if not hasattr(event, "home"):
        event.home = address_of(event.request.scope)
    return event.home


def _bytes(request: Any) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


# ---- whose turn ---------------------------------------------------------------------------------
class Turns(list):
    """Events that wait in one lane, in the order in which they are to be served.

    Whoever was served longest ago comes first: among addresses, then among the sessions of one.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        super().__init__(events)
        self.served: OrderedDict[Hashable, int] = OrderedDict()
        self.now = count(1)

    def append(self, event: Event) -> None:
        """Somebody comes, and gets a place before those who had more."""
        super().append(event)
        self._put_in_order()

    def remove(self, event: Event) -> None:
        """Somebody is served, or goes: that was their turn."""
        super().remove(event)
        now = next(self.now)
        for who in (_home(event), (_home(event), event.session_hash)):
            self.served[who] = now
            self.served.move_to_end(who)
        while len(self.served) > REMEMBERED:
            self.served.popitem(last=False)
        self._put_in_order()

    def _put_in_order(self) -> None:
        homes: dict[str, dict[str, list[Event]]] = {}
        for event in sorted(self, key=lambda event: event.enqueue_time):
            homes.setdefault(_home(event), {}).setdefault(event.session_hash, []).append(event)
        by_home = {
            home: _in_turn({(home, session): line for session, line in sessions.items()}, self)
            for home, sessions in homes.items()
        }
        self[:] = _in_turn(by_home, self)


def _in_turn(lines: dict[Any, list[Event]], turns: Turns) -> list[Event]:
    """One of each line, then the second of each: first of whoever was served longest ago."""
    order = sorted(lines, key=lambda who: turns.served.get(who, 0))
    rounds = zip_longest(*(lines[who] for who in order))
    return [event for event in chain.from_iterable(rounds) if event is not None]


class _Lanes(dict):
    """Gradio's lanes by name, each with fair turns."""

    def __setitem__(self, name: str, lane: EventQueue) -> None:
        lane.queue = Turns(lane.queue)
        super().__setitem__(name, lane)


# ---- who listens --------------------------------------------------------------------------------
class Listeners(Counter):
    """Open streams by session, or by event of a program; gate.py counts them."""

    def leave(self, who: str) -> None:
        """One stream less."""
        self[who] -= 1
        if self[who] <= 0:
            del self[who]


LISTENERS = Listeners()  # to what is drawn
PAGES = Listeners()  # pages that are open, by session


class _Since(dict):
    """For how long something has been so."""

    def seconds(self, what: Hashable, so: bool, now: float) -> float:
        """Seconds since `what` began to be so; 0 if it is not."""
        if not so:
            self.pop(what, None)
            return 0.0
        return now - self.setdefault(what, now)

    def keep_only(self, kind: str, those: Iterable[str]) -> None:
        """Forget all others of that kind."""
        known = set(those)
        for what in [w for w in self if w[0] == kind and w[1] not in known]:
            del self[what]


# ---- the queue ----------------------------------------------------------------------------------
class VisitorQueue(Queue):
    """Gradio's queue, with places for each visitor; what nobody listens to does not go on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.event_queue_per_concurrency_id = _Lanes()
        self.since = _Since()

    def start(self) -> None:
        """Serve, and look after what is left behind."""
        super().start()
        run_coro_in_background(self._look_after)

    def set_server_app(self, app: Any) -> None:
        """Let the app keep its sessions as we do."""
        super().set_server_app(app)
        app.state_holder = Sessions(self.blocks)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Take an event, or refuse it at once with 429 and a sentence: it never had a place."""
        function = self.blocks.fns.get(body.fn_index)
        heavy = function is not None and function.concurrency_id in HEAVY
        if why := self.refusal(request, body.session_hash, heavy):
            raise HTTPException(429, why, headers={"Retry-After": "5"})
        return await super().push(body=body, request=request, username=username)

    def refusal(self, request: Any, session: str | None, heavy: bool) -> str | None:
        """Why this visitor gets no place now; None if there is one."""
        here = address_of(request.scope)
        events = list(self.event_ids_to_events.values())
        near = [event for event in events if _home(event) == here]
        mine = [event for event in near if event.session_hash == session]
        if heavy:
            if len(_runs(mine)) >= RUNS_EACH:
                return MINE
            if (runs := len(_runs(near))) >= RUNS_HERE:
                return OURS.format(runs, here, RUNS_HERE)
        if len(mine) >= EVENTS_EACH:
            return MANY.format(len(mine), EVENTS_EACH)
        held = sum(_bytes(event.request) for event in near) + _bytes(request)
        if len(near) >= EVENTS_HERE or (near and held > BYTES_HERE):
            return MANY.format(len(near), EVENTS_HERE)
        return FULL.format(len(events)) if len(events) >= EVENTS else None

    async def _look_after(self) -> None:
        while not self.stopped:
            await asyncio.sleep(1)
            await self.sweep(time.monotonic())

    async def sweep(self, now: float) -> None:
        """End what nobody has listened to for UNHEARD, and forget who left FORGOTTEN ago."""
        events = list(self.event_ids_to_events.values())
        for event in events:
            heard = event.session_hash in LISTENERS or event._id in LISTENERS
            if self.since.seconds(("event", event._id), not heard, now) > UNHEARD:
                await self.clean_events(event_id=event._id)
        self.since.keep_only("event", (event._id for event in events))
        busy = {event.session_hash for event in self.event_ids_to_events.values()}
        self._forget(busy, now)

    def _forget(self, busy: set[str], now: float) -> None:
        """Answers that nobody fetched; also the state of programs, which have no page."""
        waiting, ids = self.pending_messages_per_session, self.pending_event_ids_session
        states = self.blocks.state_holder
        sessions = {*waiting, *ids, *states.session_data}
        for session in sessions:
            gone = session not in LISTENERS and session not in PAGES and session not in busy
            if self.since.seconds(("session", session), gone, now) > FORGOTTEN:
                waiting.pop(session, None)
                ids.pop(session, None)
                if session in states and not states.session_data[session].is_closed:
                    states.delete_state(session)  # what a page left is Gradio's to keep an hour
                    states.session_data.pop(session, None)
                    states.time_last_used.pop(session, None)
        self.since.keep_only("session", sessions)


def _runs(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.concurrency_id in HEAVY]


def attend(demo: gr.Blocks) -> None:
    """Give `demo` the queue with places for each visitor, once all its events are wired."""
    # no way around the queue; who waits hears of it each second, not of everybody's turn: n^2 words
    demo.queue(api_open=False, default_concurrency_limit=4, status_update_rate=1)
    plain = demo._queue
    demo._queue = VisitorQueue(
        live_updates=plain.live_updates,
        concurrency_count=plain.max_thread_count,
        update_intervals=plain.update_intervals,
        max_size=None,  # one number for all is what one visitor could use up
        blocks=demo,
        default_concurrency_limit=plain.default_concurrency_limit,
    )


def check_room() -> None:
    """Within an event that is to be followed by a run: ConfigError if the visitor has two."""
    request, blocks = LocalContext.request.get(None), LocalContext.blocks.get(None)
    queue = getattr(blocks, "_queue", None)
    if request is None or not isinstance(queue, VisitorQueue):
        return
    if why := queue.refusal(request.request, request.session_hash, heavy=True):
        raise ConfigError(why)
