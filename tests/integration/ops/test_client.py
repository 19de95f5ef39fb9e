"""OpsClient and the curl line of ``escalation sign`` send signed requests."""

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
    """Return a clock at the real time, because the client and the command sign with the real time."""
    return ManualClock(datetime.fromtimestamp(int(time.time()), UTC))


def engine_of(clock: ManualClock) -> Engine:
    return Engine(MemoryStore(clock), settings=Settings(ops_hmac_secret=SECRET))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_client(binding: str, clock: ManualClock) -> None:
    """The client signs each call anew, and returns the document or raises the problem."""
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
    """The client's error for an endpoint out of reach does not show the URL. A client that is not open raises."""
    async with OpsClient("http://127.0.0.1:1/T0K3N", secret=SECRET) as ops:
        with pytest.raises(EscalationError, match="gave no answer: ") as fault:
            await ops.act("tick")
        assert "T0K3N" not in repr(fault.value) + str(fault.value) + repr(ops)
    with pytest.raises(EscalationError, match="is not open"):
        await OpsClient("http://127.0.0.1:1/", secret=SECRET).act("tick")


async def test_client_waits_as_long_as_it_was_told() -> None:
    """If an endpoint gets the request and exceeds the timeout, the client raises. A timeout must be a positive span."""
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
    """By default the client waits longer than a tick and its delivery pass may take."""
    settings = Settings()
    assert 2 * settings.tick_interval + settings.retry.send_timeout < TIMEOUT


async def test_curl_line(clock: ManualClock) -> None:
    """``escalation sign`` prints a curl line whose request the endpoint accepts. The line does not show the secret."""
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
    """Without a secret, or with a field or action that is not valid, ``escalation sign`` fails and names the remedy."""
    done = program(*command, env=env)
    assert 0 != done.code
    assert said in done.err


def test_texts_are_signed_as_texts() -> None:
    """``escalation sign`` sends a key of digits, or a reason that looks like JSON, as a text."""
    fields = ("--field", "incident_key=4711", "--field", "reason=null")
    said = program("sign", "drain", *fields, env={"OPS_HMAC_SECRET": SECRET})
    body = json.loads(shlex.split(said.out)[-1])
    assert {"action": "drain", "incident_key": "4711", "reason": "null"} == body
