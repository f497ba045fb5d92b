"""The conformance suites of a risk rule and of an advisor, whose laws are the same."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, TypeVar

import msgspec
from hypothesis import HealthCheck, given, settings

from torghut_core import Advisor, Decision, Outcome, RiskContext, RiskRule, Verdict
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.generators import decisions, exits, risk_contexts

Recorded = TypeVar("Recorded", Decision, RiskContext, Verdict)

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
"""Suppressed, because subclasses run the same law on different rules, on purpose."""


class RiskRuleConformance(PluginConformance):
    """Laws of a risk rule on random decisions and contexts.

    Attributes
    ----------
    rule : the class under test.
    params : its parameters where the defaults do not work.
    exits_pass : whether an order that only reduces a position always passes; False for a rule that stops exits on
        purpose, and says why in its docstring.
    """

    rule: ClassVar[type[RiskRule]]
    exits_pass: ClassVar[bool] = True

    @property
    def subject(self) -> type[RiskRule | Advisor]:
        """The class under test."""
        return self.rule

    def check(self, proposed: Decision, context: RiskContext) -> Verdict:
        """The verdict of a new instance."""
        verdict: Verdict = self.make().check(proposed, context)
        return verdict

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_verdict_is_whole_and_never_enlarges(self, proposed: Decision, context: RiskContext) -> None:
        """A verdict has a rule and a code, and a shrink leaves less than was proposed, and more than nothing."""
        verdict = self.check(proposed, context)
        assert verdict.rule.strip(), "the verdict names no rule"
        assert verdict.code.strip(), "the verdict has no code"
        if verdict.outcome is Outcome.SHRINK:
            assert isinstance(verdict.quantity, Decimal), "the quantity of a shrink is not a Decimal"
            assert 0 < verdict.quantity < proposed.quantity, "a shrink must leave less than proposed, and more than 0"
        else:
            assert verdict.quantity is None, "only a shrink has a quantity"

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_same_question_gets_same_answer(self, proposed: Decision, context: RiskContext) -> None:
        """The verdict depends on parameters, decision and context alone."""
        first, second = self.check(proposed, context), self.check(proposed, context)
        assert first == second, "two instances judge the same decision differently (a clock, chance, or shared state?)"

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_what_was_shrunk_passes(self, proposed: Decision, context: RiskContext) -> None:
        """A rule allows the quantity that it shrank a decision to."""
        verdict = self.check(proposed, context)
        if verdict.outcome is Outcome.SHRINK:
            left = msgspec.structs.replace(proposed, quantity=verdict.quantity)
            assert self.check(left, context).outcome is Outcome.ALLOW, "the rule does not allow what it shrank to"

    @LAW
    @given(proposed=decisions(), context=risk_contexts())
    def test_recorded_inputs_give_the_verdict_again(self, proposed: Decision, context: RiskContext) -> None:
        """A verdict survives JSON, and decision and context that were read back from JSON give the same verdict."""
        verdict = self.check(proposed, context)
        assert _from_json(verdict) == verdict, "the verdict has values that JSON does not keep"
        again = self.check(_from_json(proposed), _from_json(context))
        assert again == verdict, "the verdict differs once decision and context were recorded and read back"

    @LAW
    @given(case=exits())
    def test_exit_passes(self, case: tuple[Decision, RiskContext]) -> None:
        """An order that only reduces a position is allowed, whole."""
        if self.exits_pass:
            outcome = self.check(*case).outcome
            assert outcome is Outcome.ALLOW, "the rule stops an exit (if on purpose, state `exits_pass = False`)"


class AdvisorConformance(RiskRuleConformance):
    """Laws of an advisor on random decisions and contexts: those of a risk rule.

    Attributes
    ----------
    advisor : the class under test.
    params : its parameters where the defaults do not work.
    exits_pass : False for one that vetoes exits on purpose, and says why in its docstring.
    """

    advisor: ClassVar[type[Advisor]]

    @property
    def subject(self) -> type[Advisor]:
        """The class under test."""
        return self.advisor

    def check(self, proposed: Decision, context: RiskContext) -> Verdict:
        """The verdict of a new instance."""
        verdict: Verdict = self.make().review(proposed, context)
        return verdict


def _from_json(recorded: Recorded) -> Recorded:
    return msgspec.json.decode(msgspec.json.encode(recorded), type=type(recorded))
