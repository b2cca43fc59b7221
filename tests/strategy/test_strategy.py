"""The table of strategies, and the errors of who asks it for what it has not."""

import pytest

from dquant.errors import ConfigError
from dquant.strategy.strategy import STRATEGIES, Strategy, create_strategy

A = "okex_future_btcusd_thisweek"
B = "bitmex_future_btcusd"


def test_each_row_of_the_table_is_a_strategy_with_its_own_name_and_a_description():
    for name, chosen in STRATEGIES.items():
        markets = [f"market_{number}" for number in range(chosen.market_count[0])]
        strategy: Strategy = create_strategy(name, markets, "dev")

        assert strategy.name == name
        assert strategy.markets == markets
        assert strategy.environment == "dev"
        assert strategy.description
        assert "\n" not in strategy.description
        assert strategy.on_time(1) == []


@pytest.mark.parametrize(
    ("name", "markets", "told"),
    [
        ("dif", [A, B], ["config/dev.cfg: strategy: ", "'dif'", "diff, ticker"]),
        ("diff", [A], ["-m: markets: diff", "of config/dev.cfg, takes exactly 2 markets, 1 given", A]),
        ("diff", [A, B, "c"], ["-m: markets: ", "exactly 2", "3 given"]),
        ("diff", [A, A], ["-m: markets: ", "different"]),
        ("ticker", [], ["-m: markets: ", "1 to 64", "none"]),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_key_and_what_is_allowed(name, markets, told):
    with pytest.raises(ConfigError) as refused:
        create_strategy(name, markets, "dev", source="config/dev.cfg", markets_source="-m")

    message = str(refused.value)
    assert "\n" not in message
    assert refused.value.exit_code == 2
    for words in told:
        assert words in message
