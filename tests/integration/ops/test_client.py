"""The client that signs, and the curl line that does."""

import asyncio
import json
import shlex
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from escalation_adapters.ops.client import TIMEOUT, OpsClient, OpsRefused
from escalation_core import Engine, EscalationError, InvalidValue, Settings
from escalation_core.testing import ManualClock, MemoryStore

from ...acceptance.console import program
from .service import BINDINGS, SECRET, serving


@pytest.fixture
def clock() -> ManualClock:
    """The time of day: the client and the command sign with it."""
    return ManualClock(datetime.fromtimestamp(int(time.time()), UTC))


def engine_of(clock: ManualClock) -> Engine:
    return Engine(MemoryStore(clock), settings=Settings(ops_hmac_secret=SECRET))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_client(binding: str, clock: ManualClock) -> None:
    """Each call is signed anew, and answers with the document or raises the problem."""
    async with serving(binding, engine_of(clock), clock) as service:
        url = f"http://127.0.0.1:{service.port}/ops/escalation"
        async with OpsClient(url, secret=SECRET, headers={"Cookie": "user=ada"}) as ops:
            for _ in range(2):
                assert 0 == (await ops.act("tick"))["escalations"]
            with pytest.raises(OpsRefused, match="422: until: ") as refused:
                await ops.act("pause")
            assert ("until", 422) == (refused.value.problem["field"], refused.value.status)
        async with OpsClient(url, secret="w" * 40) as ops:
            with pytest.raises(OpsRefused, match="401: the signature is refused"):
                await ops.act("tick")


async def test_client_without_an_answer() -> None:
    """An endpoint that is out of reach is told without its URL; a client that is not open says so."""
    async with OpsClient("http://127.0.0.1:1/T0K3N", secret=SECRET) as ops:
        with pytest.raises(EscalationError, match="gave no answer: ") as fault:
            await ops.act("tick")
        assert "T0K3N" not in repr(fault.value) + str(fault.value) + repr(ops)
    with pytest.raises(EscalationError, match="is not open"):
        await OpsClient("http://127.0.0.1:1/", secret=SECRET).act("tick")


async def test_client_waits_as_long_as_it_was_told() -> None:
    """An endpoint that takes longer than the timeout is told as one that gave no answer; the request reached it."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        asked.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with OpsClient(url, secret=SECRET, timeout=timedelta(seconds=0.2)) as ops:
            with pytest.raises(EscalationError, match="gave no answer: TimeoutError"):
                await ops.act("tick")
        assert asked.is_set()
        await gone.wait()
    for wrong in (timedelta(), timedelta(seconds=-1), 30):
        with pytest.raises(InvalidValue, match="timeout: "):
            OpsClient(url, secret=SECRET, timeout=wrong)  # type: ignore[arg-type]


def test_client_waits_for_a_whole_tick() -> None:
    """By default it waits longer than a tick and its delivery pass may take."""
    settings = Settings()
    assert 2 * settings.tick_interval + settings.retry.send_timeout < TIMEOUT


async def test_curl_line(clock: ManualClock) -> None:
    """What the command prints is a signed request, to the letter, with no secret in it."""
    async with serving("aiohttp", engine_of(clock), clock) as service:
        said = await asyncio.to_thread(
            program, "sign", "pause", "--field", "minutes=5", "--field", "reason=it's a test",
            env={"OPS_HMAC_SECRET": SECRET},
        )  # fmt: skip
        assert (0, "") == (said.code, said.err)
        assert SECRET not in said.out
        words = shlex.split(said.out)
        assert ["curl", "-sS", "-X", "POST", "http://127.0.0.1:8080/ops/escalation/pause"] == words[:5]
        headers = [tuple(word.split(": ", 1)) for flag, word in pairwise(words) if flag == "-H"]
        body = words[words.index("--data-binary") + 1].encode()
        assert {"action": "pause", "minutes": 5, "reason": "it's a test"} == json.loads(body)
        answer = await service.send("POST", "/pause", [*headers, ("cookie", "user=ada")], body)  # type: ignore[list-item]
        assert 200 == answer.status


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        (("sign", "tick"), {}, "OPS_HMAC_SECRET is not set"),
        (("sign", "tick", "--field", "speed=9"), {"OPS_HMAC_SECRET": SECRET}, "tick has no field 'speed'"),
        (("sign", "tick", "--field", "dry_run=yes"), {"OPS_HMAC_SECRET": SECRET}, "give true or false"),
        (("sign", "pause", "--field", "minutes=NaN"), {"OPS_HMAC_SECRET": SECRET}, "give a whole number"),
        (("sign", "dance"), {"OPS_HMAC_SECRET": SECRET}, "the actions are tick, recalc, pause"),
    ],
)
def test_nothing_to_sign(command: tuple[str, ...], env: dict[str, str], said: str) -> None:
    """Without a secret, or for an action that is none, it says what is needed."""
    done = program(*command, env=env)
    assert 0 != done.code
    assert said in done.err


def test_texts_are_signed_as_texts() -> None:
    """A key of digits, or a reason that looks like JSON, is a text all the same."""
    fields = ("--field", "incident_key=4711", "--field", "reason=null")
    said = program("sign", "drain", *fields, env={"OPS_HMAC_SECRET": SECRET})
    body = json.loads(shlex.split(said.out)[-1])
    assert {"action": "drain", "incident_key": "4711", "reason": "null"} == body
