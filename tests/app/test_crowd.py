"""Many visitors of one running app: all are served, in a fair order, and who leaves leaves nothing.

Not in the room: seconds and megabytes, which are benchmarks/crowd.py's: they depend on the machine.
"""

import asyncio
import time

import pytest
from crowd import Guest, endpoints, everybody, sampling, waited_for

TRAINING = ["bundled", "tiny", 20_000, 0]


@pytest.fixture(scope="module")
def numbers(server):
    return endpoints(server.url)


def test_thirty_visitors_and_a_training_are_all_served_and_nobody_is_refused(server, numbers):
    async def visit(n: int):
        async with Guest(server.url, f"127.0.0.{20 + n % 10}") as guest:
            light = await guest.run(numbers["schedule"], ["cosine", 50])
            drawn = await guest.run(numbers["sample"], sampling(2, n))
            return light, drawn

    async def play():
        async with Guest(server.url) as trainer:
            started = await trainer.run(numbers["train_start"], TRAINING)
            job = started.end["output"]["data"][0]["job"]
            try:
                return await everybody(visit(n) for n in range(30))
            finally:
                await trainer.run(numbers["train_stop"], [job])

    for light, drawn in waited_for(play()):
        assert light.done and drawn.done, (light.end, drawn.end)
        assert drawn.answers[-1]["data"][0]["seed"] in range(30)


def test_who_asks_for_little_waits_for_one_run_of_a_crowd_not_for_all(server, numbers):
    ended = []

    async def visit(address: str, name: str):
        async with Guest(server.url, address) as guest:
            run = await guest.run(numbers["sample"], sampling(8))
            assert run.done, run.end
            ended.append(name)

    async def play():
        crowd = [asyncio.create_task(visit("127.0.0.40", "crowd")) for _ in range(12)]
        await asyncio.sleep(1)
        await visit("127.0.0.41", "late")
        await everybody(crowd)

    waited_for(play())
    behind = ended[ended.index("late") :]
    assert len(behind) > 4, ended  # of the twelve that came before


def test_of_a_hundred_jobs_that_nobody_listens_to_none_is_left_after_ten_seconds(server, numbers):
    addresses = [f"127.0.0.{n}" for n in range(50, 54)]

    async def abandon(address: str, listens: bool) -> int:
        async with Guest(server.url, address) as guest:
            answer = await guest.join(numbers["sample"], sampling(1000, 1, 4))
            if listens and answer.status_code == 200:
                async for _ in guest.listen():
                    break  # and hangs up
            return answer.status_code

    async def play():
        first = await everybody(
            abandon(address, listens) for address in addresses for listens in [True, False] * 12
        )
        first += await everybody(abandon(address, False) for address in addresses)
        left = time.monotonic()
        await asyncio.sleep(10 - (time.monotonic() - left))
        # an address has 32 places: they are all free only if none of its jobs is left
        return first, await everybody(abandon(a, False) for a in addresses for _ in range(32))

    first, then = waited_for(play())
    assert first == [200] * 100
    assert then == [200] * 128
