"""Waiting for a transfer in an event loop."""

import asyncio
import os


async def completion(transfer) -> None:
    """Returns when the transfer is complete; raises its error."""
    if not transfer.done:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        descriptor = os.dup(transfer.fileno())  # a loop has one reader of a descriptor
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    transfer.wait(0)
