"""Watch and feed the price difference between dated Bitcoin futures and perpetuals."""

__version__ = "0.1.0"
