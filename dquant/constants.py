"""Fixed facts of the product: names of markets and verbs, Redis names, limits.

What an operator may want to change is a key of ``config/*.cfg`` instead.
"""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

# Redis: everything of ours starts with the prefix, except the channels, whose names are the product's.
KEY_PREFIX = "dquant"
CHANNELS = ("price", "depth", "trade", "health")

# The heartbeat is once a second; three missed ones are silence.
HEARTBEAT_S = 1.0
FEED_SILENCE_S = 3.0

STOP_TIMEOUT_S = 5.0
