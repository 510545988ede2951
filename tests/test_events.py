"""Events travel from a child process to its parent as JSON and come out as they were."""

import json

import pytest

from optkit.events import (
    Answered,
    Event,
    Note,
    Piece,
    Progress,
    RowDone,
    Saved,
    Scored,
    Step,
    from_json,
    to_json,
)

SENT = [
    Step("prune", 2, 4),
    Step("prune"),
    Progress("calibrating", 0.5, 2.0),
    Progress("calibrating"),
    Note("reading x"),
    Scored(1.5, 0.75),
    Answered(3, 7, 0.5),
    Piece("the next words"),
]


@pytest.mark.parametrize("event", SENT, ids=lambda event: type(event).__name__)
def test_an_event_comes_out_as_it_went_in(event):
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_every_kind_that_a_child_can_send_is_tried():
    assert {type(event) for event in SENT} == set(Event.__subclasses__()) - {RowDone, Saved}


def test_a_kind_that_is_unknown_is_an_error():
    with pytest.raises(KeyError, match="Prune"):
        from_json({"event": "Prune"})
