"""A language model is held against another one token by token, each after the tokens of the other one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.cli.profiling.prompts import Prompts
from nearhall.cli.profiling.tokens import AT_ONCE, TOKENS, Answer, Held, OtherTokensError, Until, agreement, answered, held
from nearhall.core.errors import InputError, PermanentError, Refusal, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.core.reasons import Reason
from nearhall.ports.runtime import ChatMessage
from talking_rig import END, Model, Next, tokens_of


def prompts(*texts: str, kind: Kind = Kind.MEASURED) -> Prompts:
    return Prompts(prompts=[[ChatMessage(role="user", content=text)] for text in texts], source="mine.txt", kind=kind)


def until(seconds: float = 1e9, clock: Callable[[], float] = lambda: 0.0, told: list[int] | None = None) -> Until:
    return Until(clock=clock, ends_s=seconds, tell=(lambda _: None) if told is None else told.append)


def drawn(seed: int, vocabulary: int = 4) -> Next:
    """Some function of all tokens before; ends answers now and then."""
    return lambda said: hash((seed, *said)) % vocabulary


def wrong_at(most_likely: Next, places: frozenset[int], prompt: int) -> Next:
    """The same but at these positions of an answer."""
    return lambda said: most_likely(said) + (100 if len(said) - prompt in places else 0)


def counting(said: Sequence[int]) -> int:
    return len(said) + 1


def test_the_reference_answers_every_prompt_some_at_once():
    model, told = Model(counting), list[int]()
    answers = asyncio.run(answered(model, prompts(*(f"ask {n:02}" for n in range(20))), until(told=told)))
    assert answers[3] == Answer(prompt=tuple(tokens_of("ask 03")), tokens=tuple(range(7, 7 + TOKENS)))
    assert (len(answers), model.most_at_once, told) == (20, AT_ONCE, list(range(1, 21)))


def test_the_end_of_an_answer_is_a_token_like_others():
    short = Model(lambda said: END if len(said) == 4 else 9)
    answers = asyncio.run(answered(short, prompts("ab"), until()))
    assert answers[0].tokens == (9, 9, END)
    longer = Model(lambda said: 9)
    assert asyncio.run(held(longer, prompts("ab"), answers, until())) == [Held(same=2, of=3)]
    sooner = Model(lambda said: END if len(said) == 3 else short.most_likely(said))
    assert asyncio.run(held(sooner, prompts("ab"), answers, until())) == [Held(same=2, of=3)]


def test_a_token_that_differs_counts_once_and_the_answer_goes_on_from_the_references():
    asked = prompts("ab")
    answers = asyncio.run(answered(Model(counting), asked, until()))
    variant = Model(wrong_at(counting, frozenset({0, 10, 11, TOKENS - 1}), prompt=2))
    assert asyncio.run(held(variant, asked, answers, until())) == [Held(same=TOKENS - 4, of=TOKENS)]
    assert [len(ask.begun or ()) for ask in variant.asks] == [0, 1, 11, 12]
    assert variant.asks[2].begun == answers[0].tokens[:11]
    assert variant.at_once == 0, "what is given up early is given up to the runtime"


@given(st.integers(), st.integers(), st.integers(1, 5), st.integers(1, 5))
def test_it_is_the_share_of_positions_whose_most_likely_token_is_the_same(ours: int, theirs: int, piece: int, asked: int):
    """Whatever the two models are, and however many tokens come in a piece: as if each position had been asked by itself."""
    texts = [f"prompt {n}" for n in range(asked)]
    reference, variant = drawn(ours), drawn(theirs)
    answers = asyncio.run(answered(Model(reference, piece=piece), prompts(*texts), until()))
    found = asyncio.run(held(Model(variant, piece=piece), prompts(*texts), answers, until()))
    for answer, each in zip(answers, found, strict=True):
        one_by_one = [variant([*answer.prompt, *answer.tokens[:at]]) == token for at, token in enumerate(answer.tokens)]
        assert each == Held(same=sum(one_by_one), of=len(answer.tokens))
    assert asyncio.run(held(Model(reference), prompts(*texts), answers, until())) == [
        Held(same=len(a.tokens), of=len(a.tokens)) for a in answers
    ]


def test_of_second_halves_the_first_is_read_and_not_judged():
    asked = prompts("ab")
    answers = asyncio.run(answered(Model(counting), asked, until()))
    odd = Model(wrong_at(counting, frozenset({3, TOKENS // 2, TOKENS - 1}), prompt=2))
    assert asyncio.run(held(odd, asked, answers, until(), halves=True)) == [Held(same=TOKENS // 2 - 2, of=TOKENS // 2)]
    assert odd.asks[0].begun == answers[0].tokens[: TOKENS // 2]
    one = [Answer(prompt=tuple(tokens_of("ab")), tokens=(3,))]
    assert asyncio.run(held(Model(counting), asked, one, until(), halves=True)) == [Held(same=1, of=1)]


def test_models_that_number_tokens_otherwise_are_not_compared():
    asked = prompts("ab")
    answers = asyncio.run(answered(Model(counting), asked, until()))
    with pytest.raises(OtherTokensError):
        asyncio.run(held(Model(counting, tokenizer=lambda text: [7, *tokens_of(text)]), asked, answers, until()))


def test_when_the_time_is_over_whole_answers_count_and_no_others():
    asked = prompts(*(f"ask {n:02}" for n in range(AT_ONCE * 3)))
    answers = asyncio.run(answered(Model(counting), asked, until()))
    ticks = count()
    cut = asyncio.run(held(Model(counting), asked, answers, until(AT_ONCE * (TOKENS + 3), lambda: next(ticks))))
    assert cut == [Held(same=TOKENS, of=TOKENS)] * len(cut)
    assert AT_ONCE <= len(cut) < len(answers)
    ticks = count()
    few = asyncio.run(answered(Model(counting), asked, until(AT_ONCE * (TOKENS + 3), lambda: next(ticks))))
    assert few == answers[: len(few)]
    assert AT_ONCE <= len(few) < len(answers)
    assert asyncio.run(answered(Model(counting), asked, until(0.0))) == []


def test_a_prompt_that_a_model_does_not_take_is_named():
    refused = Model(counting, fault=Refusal(Reason.BAD_REQUEST, "the prompt has 9 tokens"))
    with pytest.raises(InputError, match=r"prompt 1 of mine\.txt: the prompt has 9 tokens"):
        asyncio.run(answered(refused, prompts("ab"), until()))


def test_a_process_that_ends_and_a_model_that_says_nothing_are_said():
    gone = Model(counting, fault=TemporaryError("its process has gone"))
    with pytest.raises(PermanentError, match="ended while it was compared"):
        asyncio.run(answered(gone, prompts("ab"), until()))

    class Silent(Model):
        async def generate(self, ask):  # pyright: ignore[reportMissingParameterType]
            for nothing in ():
                yield nothing

    with pytest.raises(PermanentError, match="gave no token"):
        asyncio.run(answered(Silent(counting), prompts("ab"), until()))
    with pytest.raises(PermanentError, match="gave no token"):
        asyncio.run(held(Silent(counting), prompts("ab"), [Answer(prompt=(98, 99), tokens=(1, 2))], until()))


def test_an_agreement_says_how_many_tokens_of_how_many_prompts_and_how_well_it_is_known():
    compared = [Held(same=60, of=64), Held(same=64, of=64), Held(same=8, of=16)]
    found = agreement(compared, prompts("a", "b", "c"), name="q8", sha256="a" * 64)
    assert (found.score, found.worst, found.n, found.positions) == (round(132 / 144, 5), 0.5, 3, 144)
    assert (found.reference, found.reference_sha256, found.kind) == ("q8", "a" * 64, "measured")
    assert "132 of 144 positions" in found.how
    assert "1 of 3 answers are the same" in found.how
    # Residuals of the ratio: 60 - 58.67, 64 - 58.67, 8 - 14.67.
    assert found.spread == pytest.approx(1.96 * (1.5 * (1.3333**2 + 5.3333**2 + 6.6667**2)) ** 0.5 / 144, abs=1e-4)
    assert "±14.4% (95 %)" in found.how


def test_a_spread_is_not_claimed_where_none_can_be_reckoned():
    alone = agreement([Held(same=3, of=4)], prompts("a", kind=Kind.ASSUMED), name="q8", sha256="a" * 64)
    assert (alone.itself, "itself" in alone.how) == (None, False)
    beside = agreement([Held(same=3, of=4)], prompts("a"), name="q8", sha256="a" * 64, itself=0.98765)
    assert (beside.itself, "the reference itself, its answers read to it by half: 98.7%" in beside.how) == (0.98765, True)
    assert (alone.spread, alone.kind, "±" in alone.how) == (None, "assumed", False)
    same = agreement([Held(same=4, of=4)] * 3, prompts("a", "b", "c"), name="q8", sha256="a" * 64)
    assert (same.spread, same.score, "±" in same.how) == (None, 1.0, False)
