"""A part of the campaign of bad invocations and damaged files; benchmarks/invocations.py runs all of it."""

from __future__ import annotations

import pytest

from tests.hostile.campaign import Campaign
from tests.hostile.invocations import verbs

#: One in so many is tried here.
EVERY = 58


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("campaign"))


def test_the_campaign_is_large_and_knows_every_verb(campaign):
    trials = list(campaign.trials())
    assert len(trials) >= 2000
    assert {t.group for t in trials} == {*(v.name for v in verbs()), "damage"}


def test_a_part_of_it(campaign):
    """Of verbs that work for seconds where they accept a value, those that have to refuse it."""
    trials = [t for t in campaign.trials() if 0 not in t.codes or t.group == "damage"][::EVERY]
    wrong = [(t.name, found, ended.err[-300:]) for t in trials for ended, found in [campaign.run(t)] if found]
    assert not wrong
