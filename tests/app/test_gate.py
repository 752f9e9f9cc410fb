"""What stands between strangers and Gradio: bytes, turns, listeners, and words that are struck out.

In the room: gate.py, visitors.py and logs.py by themselves. Not in the room: the running app
(test_attacks, test_crowd).
"""

import asyncio
import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from crowd import waited_for
from gradio.state_holder import StateHolder

from ddpm_hub.app import gate, logs, visitors

TOKEN = "hf_" + "abcDEF0123456789"


# ---- logs ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        f"token {TOKEN} was sent",
        f"Authorization: Bearer {TOKEN[3:]}",
        f"https://cdn.example/x?Expires=1&Signature={TOKEN[3:]}&Key=2",
        f"https://space.example/?token={TOKEN[3:]}&x=1",
        f"{{'authorization': 'Bearer {TOKEN[3:]}'}}",
    ],
)
def test_a_secret_is_struck_out_and_the_rest_stays(text):
    said = logs.hidden(text)
    assert TOKEN[3:] not in said and "***" in said
    assert said.replace("***", "") in text.replace(TOKEN, "").replace(TOKEN[3:], "")


@pytest.mark.parametrize("text", ["import hf_hub", "set HF_HOME", "hf_xet is missing", "a Bearer"])
def test_words_that_hold_no_secret_stay_as_they_are(text):
    assert logs.hidden(text) == text


def test_a_token_that_is_printed_in_pieces_is_struck_out_and_nothing_is_lost():
    stream = io.StringIO()
    print("Bearer", TOKEN[3:], "end", file=logs.Redacted(stream))
    bar = logs.Redacted(stream)
    bar.write("50 %")
    bar.flush()
    assert stream.getvalue() == "Bearer *** end\n50 %"


def test_a_program_that_installs_it_says_no_secret_however_it_tries():
    program = f"""
import logging, sys, warnings
import logs  # alone: the whole app takes seconds to import
logs.install(); logs.install()
print("a {TOKEN}"); print("b {TOKEN}", file=sys.stderr)
logging.basicConfig(filename="/dev/stdout", level="INFO")
logging.getLogger("uvicorn.access").info("c %s", "{TOKEN}")
warnings.warn("d {TOKEN}")
raise RuntimeError("e {TOKEN}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(logs.__file__).parent,
    )
    said = done.stdout + done.stderr
    for word in "abcde":
        assert f"{word} ***" in said, said
    assert TOKEN[3:] not in said.replace(program, "")


def test_records_of_a_log_are_clean_for_every_handler():
    record = logs._Record("x", logging.INFO, "f", 1, "said %s", (TOKEN,), None)
    assert record.getMessage() == "said ***"


# ---- who is who ---------------------------------------------------------------------------------
def scope(client="10.0.0.1", forwarded=None):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return {"type": "http", "client": (client, 1), "headers": headers}


def test_on_a_space_the_proxy_s_own_word_counts_and_elsewhere_none(monkeypatch):
    said = "1.2.3.4, 8.8.8.8, 10.1.2.3"  # the first is what the sender made up
    assert visitors.address_of(scope(forwarded=said)) == "10.0.0.1"
    monkeypatch.setenv("SPACE_ID", "alice/demo")
    assert visitors.address_of(scope(forwarded=said)) == "8.8.8.8"
    assert visitors.address_of(scope(forwarded="what, 10.0.0.2")) == "10.0.0.1"


def test_a_household_of_ipv6_is_one_visitor():
    first, second = (visitors.address_of(scope(f"2001:db8:1:2::{n}")) for n in ("1", "ffff"))
    assert first == second != visitors.address_of(scope("2001:db8:1:3::1"))
    assert visitors.address_of(scope("::ffff:10.0.0.1")) == "10.0.0.1"


# ---- turns --------------------------------------------------------------------------------------
def event(home: str, session: str, at: float):
    return SimpleNamespace(
        session_hash=session, enqueue_time=at, request=SimpleNamespace(scope=scope(home))
    )


def served(turns) -> list[str]:
    order = []
    while turns:
        order.append(turns[0].session_hash)
        turns.remove(turns[0])
    return order


def test_addresses_take_turns_and_so_do_the_sessions_of_one():
    turns = visitors.Turns()
    for at, (home, session) in enumerate(
        [("10.0.0.1", "a"), ("10.0.0.1", "a"), ("10.0.0.1", "b"), ("10.0.0.2", "c")]
    ):
        turns.append(event(home, session, at))
    assert served(turns) == ["a", "c", "b", "a"]


def test_whoever_was_served_lately_waits_for_whoever_was_not():
    turns = visitors.Turns()
    for at in range(3):
        turns.append(event("10.0.0.1", "greedy", at))
    turns.remove(turns[0])
    turns.append(event("10.0.0.2", "new", 9))
    assert served(turns) == ["new", "greedy", "greedy"]


def test_a_waiting_line_is_never_longer_or_shorter_than_who_waits():
    turns = visitors.Turns()
    events = [event(f"10.0.0.{n % 5}", f"s{n % 7}", n) for n in range(60)]
    for one in events:
        turns.append(one)
    assert sorted(map(id, turns)) == sorted(map(id, events))


# ---- who has gone --------------------------------------------------------------------------------
def test_of_a_session_that_nobody_listens_to_nothing_is_kept_and_of_an_open_page_all(monkeypatch):
    monkeypatch.setattr(visitors, "PAGES", visitors.Listeners({"open": 1}))
    states = StateHolder()
    queue = visitors.VisitorQueue(
        live_updates=True,
        concurrency_count=1,
        update_intervals=1,
        max_size=None,
        blocks=SimpleNamespace(state_holder=states),
        default_concurrency_limit=1,
    )
    for session in ("gone", "open"):
        queue.pending_messages_per_session[session] = asyncio.Queue()
        queue.pending_event_ids_session[session] = {"an event"}
        states.session_data[session] = SimpleNamespace(is_closed=False, state_components=[])
    for now in (0.0, visitors.FORGOTTEN - 1):
        waited_for(queue.sweep(now))
        assert set(states.session_data) == {"gone", "open"}
    waited_for(queue.sweep(visitors.FORGOTTEN + 1))
    for kept in (queue.pending_messages_per_session, queue.pending_event_ids_session):
        assert set(kept) == {"open"}
    assert set(states.session_data) == {"open"}


def test_a_session_begins_with_the_page_s_events_and_no_copy_of_the_page():
    """Gradio's own describes every component anew: 60 ms in which nobody else is answered."""
    with gr.Blocks() as demo:
        box = gr.Textbox("first")
        box.change(lambda text: text, box, box, api_name="echo")
    visitors.attend(demo)
    app = gr.routes.App.create_app(demo)
    demo._queue.set_server_app(app)
    state = app.state_holder["new"]
    assert demo.state_holder is app.state_holder
    assert state.config_values == {}
    assert [fn.api_name for fn in state.blocks_config.fns.values()] == ["echo"]
    assert state[box._id].value == "first" and "new" in app.state_holder
    state[box._id] = gr.Textbox("second")  # what an event changed is this session's alone
    assert (state[box._id].value, app.state_holder["other"][box._id].value) == ("second", "first")


# ---- the gate -----------------------------------------------------------------------------------
async def inner(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def ask(door, path, chunks=(b"",), method="POST", length=None, query=b"", client="10.0.0.1"):
    """Status and body of one request to a gate around `inner`."""
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
        for n, chunk in enumerate(chunks)
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    told = {"type": "http", "method": method, "path": path, "query_string": query}
    await door(told | {"headers": headers, "client": (client, 1)}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_a_body_is_refused_by_what_it_says_and_by_what_it_is(monkeypatch):
    monkeypatch.setattr(gate, "MAX_BODY", 100)
    door = gate.Gate(inner)

    async def play():
        path = "/gradio_api/queue/join"
        assert await ask(door, path, [b"x" * 60], length=60) == (200, b"60")
        for chunks, length in (([b"x"], 101), ([b"x" * 60, b"x" * 60], None), ([b"x" * 101], 5)):
            status, body = await ask(door, path, chunks, length=length)
            assert status == 413 and b"more than" in body
        assert door.calls == {}

    waited_for(play())


def test_an_address_has_an_allowance_of_uploads_that_comes_back(monkeypatch):
    monkeypatch.setattr(gate, "MAX_UPLOADS_HERE", 100)
    door = gate.Gate(inner)

    async def play():
        for status in (200, 429):
            assert (await ask(door, gate.UPLOAD, [b"x" * 60], length=60))[0] == status
        assert (await ask(door, gate.UPLOAD, [b"x" * 60], length=60, client="10.0.0.2"))[0] == 200
        monkeypatch.setattr(gate, "WINDOW", 0.0)
        assert (await ask(door, gate.UPLOAD, [b"x" * 60], length=60))[0] == 200

    waited_for(play())


@pytest.mark.parametrize("path", ["proxy=http://x/", "deep_link", "process_recording", "vibe-edit"])
def test_doors_that_the_demo_does_not_use_are_closed(path):
    assert waited_for(ask(gate.Gate(inner), f"/gradio_api/{path}", method="GET"))[0] == 404


def test_who_listens_is_known_while_they_do_and_not_after():
    seen = []

    async def note(scope, receive, send):
        seen.append((dict(visitors.LISTENERS), dict(visitors.PAGES)))
        await inner(scope, receive, send)

    async def play():
        door = gate.Gate(note)
        query = b"session_hash=abc"
        await ask(door, "/gradio_api/queue/data", method="GET", query=query)
        await ask(door, "/gradio_api/call/sample/0f0f", method="GET")
        await ask(door, "/gradio_api/heartbeat/abc", method="GET")
        assert not visitors.LISTENERS and not visitors.PAGES and not door.streams

    waited_for(play())
    assert seen == [({"abc": 1}, {}), ({"0f0f": 1}, {}), ({}, {"abc": 1})]


def test_calls_of_one_address_wait_for_each_other_and_not_for_strangers(monkeypatch):
    most, here = 0, 0

    async def slow(scope, receive, send):
        nonlocal most, here
        here += 1
        most = max(most, here)
        await asyncio.sleep(0.02)
        here -= 1
        await inner(scope, receive, send)

    async def play():
        door, path = gate.Gate(slow), "/gradio_api/component_server"
        await asyncio.gather(*(ask(door, path) for _ in range(30)))
        assert most == gate.AT_ONCE and door.calls == {}
        monkeypatch.setattr(gate, "MAX_WAITING", 4)
        answers = await asyncio.gather(*(ask(door, path) for _ in range(30)))
        assert [status for status, _ in answers].count(429) == 30 - gate.AT_ONCE - 4

    waited_for(play())


def test_the_folder_of_uploads_is_bounded_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "own_folder", lambda: tmp_path)
    monkeypatch.setattr(gate, "MAX_FOLDER", 250)
    now = time.time()
    for name, age in {"new": 10, "older": 20, "oldest": 30, "yesterday": 99_999}.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / "x.png"
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - age, now - age))
    (tmp_path / "tmpbroken").write_bytes(b"x")
    gate.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "older", "tmpbroken"]
