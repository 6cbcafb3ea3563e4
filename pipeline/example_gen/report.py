"""What became of every row of the log, and the errors of a log from which no examples can be made.

In: facts of the reading and counts of the shards, as dictionaries. Out: the content of `report.json`, or an error.
"""

import datetime as dt

from pipeline.event_log.errors import EventLogError, bad_rows_advice
from pipeline.example_gen.rules import MovelineRules

# Of every row read, one.
FATES = ("quarantined", "above_user_limit", "duplicates", "used")
# Of those used, what lies before the start of the first split.
HISTORY = ("history_impressions", "history_events")


def make(facts: dict, counts: dict, rules: MovelineRules) -> dict:
    """The report: every row read is quarantined, one too many of its user, a duplicate, an impression or another event.

    Returns:
      `rows`: read = quarantined + above_user_limit + duplicates + used, and used = impressions + other_events.
      `requests`: total, above_limit (cut at the candidate limit), cut_at_border. `splits`: per split examples,
      candidates, clicked, without_history (examples of users who had done nothing before), other_events (inside its
      time); the candidates of all splits are the impressions, their other events all other events, but
      for those before `split.start` (history_impressions, history_events). `tables`, where there are any: rows whose
      item or user has no row in its table.
    """
    log = counts["log"]
    rows = {
        "read": facts["rows"],
        "quarantined": facts["bad_rows"],
        "above_user_limit": facts["above_user_limit"] + log["above_user_limit"],
        "duplicates": log["duplicates"],
        "used": log["impressions"] + log["other_events"],
        "impressions": log["impressions"],
        "other_events": log["other_events"],
        **{name: log[name] for name in HISTORY if rules.start is not None},
    }
    splits = counts["splits"]
    lost = {
        "rows": rows["read"] - sum(rows[fate] for fate in FATES),
        "impressions": rows["impressions"] - _sum(splits, "candidates") - log["history_impressions"],
        "other events": rows["other_events"] - _sum(splits, "other_events") - log["history_events"],
    }
    if any(lost.values()):
        raise RuntimeError(
            f"Rows do not add up: of {rows} these are without a fate: {lost}. "
            "This is a fault of the program, please report it with the log's settings."
        )
    return {
        "rows": rows,
        "clicks_are_logged": facts["clicks_are_logged"],
        "impressions_enter_as_clicks": rules.impressions_enter(facts["clicks_are_logged"]),
        "requests": {
            "total": log["requests"],
            "above_limit": log["requests_above_limit"],
            "cut_at_border": log["requests_cut_at_border"],
        },
        "splits": {split: splits[split] for split in rules.split_names},
        **({"tables": counts["tables"]} if counts["tables"] else {}),
    }


def _sum(splits: dict, name: str) -> int:
    return sum(split[name] for split in splits.values())


def stop_at_errors(facts: dict) -> None:
    """Raises what reading found of files that cannot be read."""
    if facts["errors"]:
        raise EventLogError("\n".join(facts["errors"]))


def stop_if_unusable(facts: dict, rules: MovelineRules) -> None:
    """Raises where there are more bad rows than the settings allow."""
    if rules.data.stops_at(facts["bad_rows"], facts["rows"]):
        shown = "\n".join(f"  {text}" for _, _, text in facts["first_bad"])
        more = facts["bad_rows"] - len(facts["first_bad"])
        raise EventLogError(
            f"{facts['bad_rows']} of {facts['rows']} rows of the event log break its rules:\n{shown}"
            + (f"\n  and {more} more" if more else "")
            + f"\n{bad_rows_advice(facts['bad_rows'], facts['rows'], rules.data)}"
        )


def stop_if_empty(content: dict, rules: MovelineRules) -> None:
    """Raises when a split has no examples: every later stage would fail on it with less to say."""
    if not content["rows"]["impressions"]:
        raise EventLogError(
            f"No examples: none of the {content['rows']['read']} rows has the behavior "
            f"{rules.data.impression_behavior!r}. Set data.impression_behavior to the log's word for it."
        )
    empty = [split for split, counts in content["splits"].items() if not counts["examples"]]
    if empty:
        found = ", ".join(f"{split} {counts['examples']}" for split, counts in content["splits"].items())
        raise EventLogError(
            f"Expected requests in every split, got none in {', '.join(empty)} (requests: {found}). {_borders(rules)}"
        )


def _borders(rules: MovelineRules) -> str:
    if rules.spans is not None:
        sizes = ", ".join(f"{split} {size}" for split, size in rules.spans.sizes.items())
        return f"The spans before and with {rules.spans.newest} are: {sizes}. Give these splits more spans."
    ends = ", ".join(
        f"{split} before {dt.datetime.fromtimestamp(end, dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        for split, end in zip(rules.split_names, rules.split_ends, strict=True)
        if end is not None
    )
    return f"The borders are: {ends}. `amen check` prints the log's time range; move the borders of `split` into it."
