"""Waiting for a transfer in an event loop."""

import asyncio


async def completion(transfer) -> None:
    """Returns when the transfer is complete; raises its error."""
    if not transfer.done:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        descriptor = transfer.fileno()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)
    transfer.wait(0)
