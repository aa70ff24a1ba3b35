"""A root call's REPL that outlives its run for a while, so that a follow-up need not rebuild it."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox import Jail, Repl


@dataclass
class WarmRepl:
    """The REPL with its jail; at rest, it takes memory and no processor time."""

    jail: Jail
    repl: Repl
    turn: int  # of the root call: what all cells up to here have left is in it
    ran: int  # cells that ran in this REPL
    bytes: int = 0  # of memory, once it rests

    @property
    def alive(self) -> bool:
        return self.jail.alive and self.repl.alive

    async def rest(self) -> None:
        """Halt it. Raises SandboxError where it is gone."""
        self.bytes = await self.repl.rest()

    async def wake(self) -> None:
        """Let it go on. Raises SandboxError where it is gone."""
        await self.repl.wake()

    async def close(self) -> None:
        await self.jail.close()
