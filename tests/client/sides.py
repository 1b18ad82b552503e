"""One way to drive both interfaces, so that every case is written once and run for sync and asyncio.

`Blocking` wraps an object of `tallystick.aio`: what it returns is awaited on one event loop, `for`, `next` and `with`
become their asynchronous forms. Nothing of the library is replaced.
"""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tallystick import aio, fabric
from tallystick.testing import StubGateway

from . import material


class Blocking:
    """An object of the asyncio interface, driven from synchronous code."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def _settle(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            awaitable = value

            async def waiting() -> Any:
                return await awaitable

            value = self._runner.run(waiting())
        if value is self._inner:
            return self
        if type(value).__module__.startswith("tallystick.aio"):
            return Blocking(value, self._runner)
        return value

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return self._settle(value)

        def call(*arguments: Any, **keywords: Any) -> Any:
            plain = [getattr(argument, "_inner", argument) for argument in arguments]

            async def calling() -> Any:
                result = value(*plain, **keywords)
                return await result if inspect.isawaitable(result) else result

            return self._settle(self._runner.run(calling()))

        return call

    def __iter__(self) -> "Blocking":
        return self

    def __next__(self) -> Any:
        try:
            return self._settle(self._inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Any:
        return self._settle(self._inner.__aenter__())

    def __exit__(self, *error: Any) -> Any:
        return self._settle(self._inner.__aexit__(*error))


class Side:
    """One interface: makes channels, gateways and trackers of it, and closes them at the end of the test."""

    def __init__(self, name: str, cleanup: ExitStack) -> None:
        self.name = name
        self._cleanup = cleanup
        if name == "aio":
            self._runner = cleanup.enter_context(asyncio.Runner())

    def __str__(self) -> str:
        return self.name

    @property
    def package(self) -> Any:
        """The interface itself: `tallystick.fabric` or `tallystick.aio`."""
        return fabric if self.name == "sync" else aio

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a function of the package; its result is driven like everything else."""
        if self.name == "sync":
            return function(*arguments, **keywords)
        plain = [getattr(argument, "_inner", argument) for argument in arguments]

        async def calling() -> Any:
            return function(*plain, **keywords)

        return Blocking(self._runner.run(calling()), self._runner)

    def channel(self, target: str, **options: Any) -> Any:
        """A channel that is closed at the end of the test."""
        return self._cleanup.enter_context(self.call(self.package.channel, target, **options))

    def connect(
        self, to: StubGateway | Any, identity: Any = None, signer: Any = fabric.signers.from_key, **options: Any
    ) -> Any:
        """A gateway to a stub or over a channel; with the tests' own identity and key unless told otherwise."""
        channel = self.channel(to.target, insecure=True) if isinstance(to, StubGateway) else to
        chosen = identity or material.identity()
        if signer is fabric.signers.from_key:
            signer = fabric.signers.from_key(material.private_key())
        gateway = self.call(self.package.connect, channel, chosen, signer, **options)
        return self._cleanup.enter_context(gateway)

    def tracker(self, network: Any) -> Any:
        """A commit tracker, opened, that is closed at the end of the test."""
        return self._cleanup.enter_context(self.call(self.package.CommitTracker, network))
