"""The table of the checks of a saved adapter: each check has an adapter to report, and one to pass."""

from __future__ import annotations

from adapter_stories import STORIES
from finetune_compat.inspect.checks import ENGINE

WITH_TESTS_OF_THEIR_OWN = {"S107", "S108", "S209", "S210", "S310", "S401", "S402", "S403", "S404", "S405", "S406"}


def test_every_check_has_a_bad_and_a_good_case() -> None:
    """A check without a bad case may never fail, and one without a good case may always fail."""
    codes = {code.code for code in ENGINE.codes} - WITH_TESTS_OF_THEIR_OWN
    assert {given.code for given in STORIES if given.sentence} == codes
    assert {given.code for given in STORIES if not given.sentence} == codes
