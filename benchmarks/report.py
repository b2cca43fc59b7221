"""Makes the tables of ``README.md`` from the results of all rounds. Pure."""

from statistics import median
from typing import Any

from benchmarks.scenarios import RATIOS, SCENARIOS, Ratio, Round, middle

Results = dict[str, list[Round]]
MEASURES = (
    ("cpu_us", "CPU µs a message"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("redis_p50_us", "p50 µs at the subscriber"),
    ("redis_p99_us", "p99 µs at the subscriber"),
)
EXTRA_MARKETS = 8
MEMORY_REACH, MEMORY_AIM = (45.0, 700.0), (36.0, 550.0)  # MB of one market, KiB of each further one


def table(about: dict[str, Any], results: Results) -> str:
    """Return the ratios, the medians behind them and what was measured with what, as markdown."""
    lines = [
        f"Measured {about['date']} on {about['machine']}, in {about['minutes']} minutes.",
        "",
        *(
            f"- Python {found.pop('Python', '?')}: " + ", ".join(f"{name} {at}" for name, at in found.items())
            for found in (dict(versions) for versions in about["versions"].values())
        ),
        "",
        "| ratio, same run | reach | aim | measured | min – max | rounds | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        _ratio_line(ratio, results.get(ratio.scenario, [])) for ratio in RATIOS if ratio.scenario in results
    ]
    lines += [*_memory_lines(results.get("memory", [])), _faithful_line(results)]
    lines += ["", "Medians of the runs behind the ratios (CPU as measured, all threads of the client):", ""]
    lines += ["| scenario | client | " + " | ".join(title for _, title in MEASURES) + " | updates seen |"]
    lines += ["|---|---|" + "---|" * (len(MEASURES) + 1)]
    for scenario in SCENARIOS:
        lines += _median_lines(scenario.title, results.get(scenario.name, []))
    return "\n".join(lines)


def _verdict(value: float, reach: float | None, aim: float | None, is_more_better: bool) -> str:
    if reach is None or aim is None:
        return ""
    if not is_more_better:
        value, reach, aim = -value, -reach, -aim
    return "aim" if value >= aim else "reach" if value >= reach else "**missed**"


def _ratio_line(ratio: Ratio, rounds: list[Round]) -> str:
    found = ratio.of(rounds)
    wanted = " | ".join("" if each is None else f"{each:g}" for each in (ratio.reach, ratio.aim))
    if not found:
        reasons = {
            str(results.get(label, {}).get("failed"))
            for results in rounds
            for label in (ratio.over, ratio.under)
        }
        why = "; ".join(sorted(reasons - {"None"}))
        return f"| {ratio.title} | {wanted} | – | {why} | 0 | |"
    value = median(found)
    verdict = _verdict(value, ratio.reach, ratio.aim, ratio.is_more_better)
    return (
        f"| {ratio.title} | {wanted} | {_short(value)} | {_short(min(found))} – {_short(max(found))} "
        f"| {len(found)} | {verdict} |"
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def _memory_lines(rounds: list[Round]) -> list[str]:
    one, nine = middle(rounds, "one market", "rss_kib"), middle(rounds, "nine markets", "rss_kib")
    if one is None or nine is None:
        return []
    one_mb, further = one * 1024 / 1e6, (nine - one) / EXTRA_MARKETS
    return [
        f"| resident memory, one market, MB | {MEMORY_REACH[0]:g} | {MEMORY_AIM[0]:g} | {one_mb:.1f} | | 1 "
        f"| {_verdict(one_mb, MEMORY_REACH[0], MEMORY_AIM[0], False)} |",
        f"| each further market, KiB | {MEMORY_REACH[1]:g} | {MEMORY_AIM[1]:g} | {further:.0f} | | 1 "
        f"| {_verdict(further, MEMORY_REACH[1], MEMORY_AIM[1], False)} |",
    ]


def _faithful_line(results: Results) -> str:
    """Count dquant's wrong tops and lost updates over all runs; lost messages must each have been noticed."""
    wrong = lost = checked = failed = 0
    for name, rounds in results.items():
        for results_of_round in rounds:
            for label, result in results_of_round.items():
                if label.startswith(("dquant", "default interval", "one market", "nine markets")):
                    failed += "failed" in result
                    wrong += result.get("wrong", 0)
                    checked += result.get("checked", 0)
                    lost += 0 if name == "faults" else result.get("lost", 0)
    unnoticed = sum(
        max(0, 4 - result.get("stale", 0)) for each in results.get("faults", []) for result in each.values()
    )
    total = wrong + lost + unnoticed + failed
    said = f", {failed} runs failed" if failed else ""
    return (
        f"| dquant: wrong tops, lost or unnoticed updates | 0 | 0 | {wrong}, {lost}, {unnoticed} "
        f"| {checked} tops compared{said} | | {'aim' if total == 0 else '**missed**'} |"
    )


def _median_lines(title: str, rounds: list[Round]) -> list[str]:
    labels = list(dict.fromkeys(label for results in rounds for label in results))
    lines = []
    for label in labels:
        cells = []
        for measure, _ in MEASURES:
            value = middle(rounds, label, measure)
            cells.append("" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}")
        seen, lost = middle(rounds, label, "seen"), middle(rounds, label, "lost")
        share = "" if seen is None or lost is None else f"{100 * seen / (seen + lost):.3g} %"
        lines.append(f"| {title} | {label} | {' | '.join(cells)} | {share} |")
        title = ""
    return lines
