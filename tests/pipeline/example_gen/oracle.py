"""The rules of the event log in plain Python, one event after the other: slow, and meant to be obviously right.

In: events as dictionaries, `MovelineRules`. Out: per split a list of examples, each {raw column: list of values}.
Shares nothing with the fast path but the contract's column names.
"""

import math

from amen_tf import features


def make_examples(events, rules, clicks_are_logged):
    """Split name -> list of examples as dictionaries, in no particular order."""
    by_user = {}
    for event in _in_order(events, rules):
        by_user.setdefault(event["user_id"], []).append(event)
    splits = {name: [] for name in rules.split_names}
    for history in by_user.values():
        for split, example in _of_user(history, rules, clicks_are_logged):
            splits[split].append(example)
    return splits


def make_span_examples(events, rules, clicks_are_logged, span, until, depth, all_is_known=False):
    """Examples of the requests of one span, in no particular order.

    Events say which span they are of. What happened is known from `depth` spans before on, of earlier spans what is
    remembered, or all of it, which is the same where spans do not overlap in time. Future items reach to the span
    `until`.
    """
    by_user = {}
    for event in _in_order(events, rules, [features.SPAN]):
        by_user.setdefault(event["user_id"], []).append(event)
    made = []
    for of_user in by_user.values():
        known = [e for e in of_user if span - depth <= e[features.SPAN] <= span]
        if not all_is_known:
            remembered = _remembered([e for e in known if e[features.SPAN] < span], rules, clicks_are_logged)
            known = [e for e in known if e[features.SPAN] == span or id(e) in remembered]
        ahead = [e for e in of_user if span <= e[features.SPAN] <= until]
        groups = _requests(known, rules, lambda e: e[features.SPAN])
        request_time = _times(groups)
        for (_, of_span), group in groups.items():
            if of_span == span:
                acts = _acts(known, rules, clicks_are_logged), _acts(ahead, rules, clicks_are_logged)
                made += _of_request(group, *acts, known, rules, request_time)
    return made


def _remembered(before, rules, clicks_are_logged):
    """Ids of the events of earlier spans that count: of each kind those with few after them in their own span or later.

    The kinds are what can be in a moveline, L of it, and clicked and unclicked impressions, one of each; with an
    impression goes the first of its request.
    """
    shows = rules.data.impression_behavior
    kinds = (
        (lambda e: _acts([e], rules, clicks_are_logged), rules.contract.moveline_length),
        (lambda e: e["behavior"] == shows and e["label"] == 1, 1),
        (lambda e: e["behavior"] == shows and e["label"] != 1, 1),
    )
    kept = set()
    for is_of_kind, count in kinds:
        of_kind = [e for e in before if is_of_kind(e)]
        for place, event in enumerate(of_kind):
            if sum(later[features.SPAN] >= event[features.SPAN] for later in of_kind[place + 1 :]) < count:
                kept.add(id(event))
    for group in _requests(before, rules, lambda e: e[features.SPAN]).values():
        if any(id(e) in kept for e in group):
            kept.add(id(group[0]))
    return kept


def _in_order(events, rules, more=()):
    """Distinct events, by user, time, behaviour, item, category, scene, request, features, label."""
    names = ["user_id", "timestamp", "behavior", "item_id", "category_id", "scene", "request_id"]
    names += [f.name for f in rules.contract.declared] + [*more, "label"]

    def key(event):
        # Missing numbers come last among their kind.
        return tuple(
            (isinstance(v, float) and math.isnan(v), 0 if isinstance(v, float) and math.isnan(v) else v)
            for v in (event[name] for name in names)
        )

    distinct = {key(event): event for event in events}
    return [distinct[k] for k in sorted(distinct)]


def _split_of(time, rules):
    """None before the start."""
    if rules.start is not None and time < rules.start:
        return None
    for name, end in zip(rules.split_names, rules.split_ends, strict=True):
        if end is None or time < end:
            return name
    raise AssertionError("the last split has no end")


def _of_user(history, rules, clicks_are_logged):
    """(split, example) of one user, whose events are given in order."""
    acts = _acts(history, rules, clicks_are_logged)
    groups = _requests(history, rules, lambda e: _split_of(e["timestamp"], rules))
    request_time = _times(groups)
    for (_, split), group in groups.items():
        if split is not None:
            end = dict(zip(rules.split_names, rules.split_ends, strict=True))[split]
            before_end = [e for e in acts if end is None or e["timestamp"] < end]
            for example in _of_request(group, acts, before_end, history, rules, request_time):
                yield split, example


def _acts(history, rules, clicks_are_logged):
    """What can be in a moveline."""
    data = rules.data
    as_clicks = data.impressions_as_clicks == "always" or (
        data.impressions_as_clicks == "auto" and not clicks_are_logged
    )
    acts = []
    for event in history:
        if event["behavior"] != data.impression_behavior:
            acts.append(event)
        elif as_clicks and event["label"] == 1:
            acts.append({**event, "behavior": data.click_behavior})
    return acts


def _requests(history, rules, part_of):
    """(name, part) -> impressions of a request that are in the same part."""
    groups = {}
    for event in history:
        if event["behavior"] == rules.data.impression_behavior:
            named = event["request_id"] != ""
            group = ("id", event["request_id"]) if named else ("at", event["scene"], event["timestamp"])
            groups.setdefault((group, part_of(event)), []).append(event)
    return groups


def _times(groups):
    return {id(event): min(e["timestamp"] for e in group) for group in groups.values() for event in group}


def _of_request(group, acts, acts_before_end, history, rules, request_time):
    """The examples of a request: one, or as many as it takes."""
    data, contract = rules.data, rules.contract
    t = request_time[id(group[0])]
    moveline = [e for e in acts if e["timestamp"] < t][-contract.moveline_length :]
    future = [
        e
        for e in acts_before_end
        if e["timestamp"] >= t and e["behavior"] in data.positive_behaviors and e["item_id"] != ""
    ][: contract.flow_length]
    diff = {}
    for prefix, label in (("diff_clicked_", 1), ("diff_unclicked_", 0)):
        near = [
            e
            for e in history
            if e["behavior"] == data.impression_behavior
            and e["label"] == label
            and t - rules.diff_window <= e["timestamp"] < t
        ]
        diff[prefix] = near[-1] if near else None
    for start in range(0, len(group), data.max_candidates):
        piece = group[start : start + data.max_candidates]
        yield _example(contract, group[0], t, moveline, piece, future, diff, request_time)


def _example(contract, head, t, moveline, candidates, future, diff, request_time):
    made = {
        "user_id": _scalar(head["user_id"]),
        "request_id": _scalar(head["request_id"]),
        "timestamp": [t],
        **({features.SPAN: [head[features.SPAN]]} if contract.in_spans else {}),
        "scene": _scalar(head["scene"]),
        "label": [e["label"] for e in candidates],
        "moveline_scene": [_raw(e["scene"]) for e in moveline],
        "moveline_behavior": [_raw(e["behavior"]) for e in moveline],
        "moveline_timestamp": [e["timestamp"] for e in moveline],
    }
    for field in contract.request_fields:
        made[field] = _scalar(head[field])
    for field in contract.candidate_fields:
        made["candidate_" + field] = [_raw(e[field]) for e in candidates]
    for field in contract.item_fields:
        made["moveline_" + field] = [_raw(e[field]) for e in moveline]
        made["future_" + field] = [_raw(e[field]) for e in future]
        for prefix, sample in diff.items():
            made[prefix + field] = [] if sample is None else _scalar(sample[field])
    for prefix, sample in diff.items():
        earlier = [] if sample is None else [e for e in moveline if e["timestamp"] < request_time[id(sample)]]
        made[prefix + features.MOVELINE_LENGTH] = [] if sample is None else [len(earlier)]
    return made


def _raw(value):
    return value.encode() if isinstance(value, str) else value


def _scalar(value):
    absent = value == "" or (isinstance(value, float) and math.isnan(value))
    return [] if absent else [_raw(value)]
