"""Many workers, some of which die, stall, or are told to go."""

from .conftest import Stage


async def test_nothing_befalls_them(stage: Stage) -> None:
    """Three workers to whom nothing happens keep every invariant: what is found elsewhere is the faults' doing."""
    async with stage() as arena:
        await arena.team()
        arena.live(40, over=3)
        assert [] == await arena.judge()
