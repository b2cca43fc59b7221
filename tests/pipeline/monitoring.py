"""A monitor that runs while a test does something else."""

import asyncio
import contextlib
import io

from dquant.pipeline.monitor_subscriber import MonitorSubscriber


@contextlib.asynccontextmanager
async def monitoring(settings, *channels, stream=None, **options):
    """Run a monitor of these channels beside the test; what ends it early is raised here."""
    monitor = MonitorSubscriber(channels, settings)
    task = asyncio.create_task(monitor.run(stream=stream or io.StringIO(), **options))
    try:
        yield monitor
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
