"""What every risk rule promises."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, TypeVar

import msgspec
from hypothesis import HealthCheck, given, settings

from torghut_core import Decision, Outcome, RiskContext, RiskRule, Verdict
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import decisions, exits, risk_contexts

Written = TypeVar("Written", Decision, RiskContext, Verdict)

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
"""Subclasses run the same law on rules of their own, which is the point and no accident."""


class RiskRuleConformance(PluginConformance):
    """Laws of a risk rule on random decisions and contexts.

    Attributes
    ----------
    rule : the class under test.
    params : its parameters, where the defaults will not do.
    exits_pass : whether an order that only takes off the book always passes; False for a rule that means to stop
        exits too, and says why in its docstring.
    """

    rule: ClassVar[type[RiskRule]]
    exits_pass: ClassVar[bool] = True

    @property
    def subject(self) -> type[RiskRule]:
        """The class under test."""
        return self.rule

    def check(self, proposed: Decision, context: RiskContext) -> Verdict:
        """What a new instance says."""
        verdict: Verdict = self.make().check(proposed, context)
        return verdict

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_verdict_is_whole_and_never_enlarges(self, proposed: Decision, context: RiskContext) -> None:
        """A verdict is named, and a shrink leaves something that is less than there was."""
        verdict = self.check(proposed, context)
        assert verdict.rule.strip()
        assert verdict.code.strip()
        if verdict.outcome is Outcome.SHRINK:
            assert isinstance(verdict.quantity, Decimal)
            assert 0 < verdict.quantity < proposed.quantity
        else:
            assert verdict.quantity is None

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_same_question_gets_same_answer(self, proposed: Decision, context: RiskContext) -> None:
        """Nothing but parameters, decision and context decides."""
        assert self.check(proposed, context) == self.check(proposed, context)

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_what_was_shrunk_passes(self, proposed: Decision, context: RiskContext) -> None:
        """A rule allows what it has left of a decision."""
        verdict = self.check(proposed, context)
        if verdict.outcome is Outcome.SHRINK:
            left = msgspec.structs.replace(proposed, quantity=verdict.quantity)
            assert self.check(left, context).outcome is Outcome.ALLOW

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_what_was_written_down_gives_the_verdict_again(self, proposed: Decision, context: RiskContext) -> None:
        """A verdict is of plain values, and decision and context that come back from JSON lead to the same one."""
        verdict = self.check(proposed, context)
        assert _from_json(verdict) == verdict
        assert self.check(_from_json(proposed), _from_json(context)) == verdict

    @LAW
    @given(case=exits())
    def test_exit_passes(self, case: tuple[Decision, RiskContext]) -> None:
        """An order that only takes off the book is allowed, whole."""
        if self.exits_pass:
            assert self.check(*case).outcome is Outcome.ALLOW


def _from_json(written: Written) -> Written:
    return msgspec.json.decode(msgspec.json.encode(written), type=type(written))
