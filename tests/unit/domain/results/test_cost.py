"""Cost of results: every amount here was worked out by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, PriceVariant, Provider, Tier, TieredPrices

from llmbatch.api.batchjob import Cost
from llmbatch.api.modeldeployment import Pricing
from llmbatch.domain.results.cost import Bill, NoPrice, PriceBook, Rates, Tokens
from llmbatch.domain.results.counting import ResultCounter
from support.results import a_chat_usage, a_result, an_unanswered

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OWN = Pricing(
    input_per_million_tokens="0.075", cached_input_per_million_tokens="0.03", output_per_million_tokens="0.30"
)
HIDDEN = Pricing(model="gpt-4o-mini")


@dataclass(frozen=True)
class Case:
    """Lines of a batch, and what they cost."""

    output: list[bytes]
    amount: str | None
    source: str
    errors: list[bytes] = field(default_factory=list)
    pricing: Pricing | None = None
    provider: Literal["openai", "azure"] = "openai"
    reason: str | None = None
    basis: str = ""


CASES = {
    # 1,000 - 200 = 800 at 0.075 = 60.0; 200 at 0.03 = 6.0; 500 at 0.30 = 150.0: 216.0 millionths, twice.
    "spec prices, cached input": Case(
        [a_result(a_chat_usage(1000, 500, cached=200, reasoning=100)) for _ in range(2)],
        "0.000432",
        "spec",
        pricing=OWN,
        basis="spec.pricing",
    ),
    # No cached price is given, so all 1,000 at 0.075 = 75.0; 500 at 0.30 = 150.0: 225.0 millionths.
    "spec prices without a cached one": Case(
        [a_result(a_chat_usage(1000, 500, cached=200))],
        "0.000225",
        "spec",
        pricing=Pricing(input_per_million_tokens="0.075", output_per_million_tokens="0.30"),
        basis="spec.pricing",
    ),
    # OpenAI's batch prices of gpt-5-mini: 0.125, cached 0.0125, output 1.00 (standard: 0.25, 0.025, 2.00).
    # 3,000 - 1,000 = 2,000 at 0.125 = 250.0; 1,000 at 0.0125 = 12.5; 700 at 1.00 = 700.0: 962.5 millionths.
    # Half a millionth goes to the even neighbour: 962.
    "list prices, cached input, half to even": Case(
        [a_result(a_chat_usage(3000, 700, cached=1000, reasoning=300), model="gpt-5-mini-2025-08-07")],
        "0.000962",
        "genai-prices",
        basis="genai-prices openai gpt-5-mini batch",
    ),
    # gpt-4.1: batch 1.00 and 4.00; the list goes on with 0.50 for cached input, and says so.
    # 600 at 1.00 = 600.0; 400 at 0.50 = 200.0; 100 at 4.00 = 400.0: 1,200 millionths.
    "list prices without a batch price for cached input": Case(
        [a_result(a_chat_usage(1000, 100, cached=400), model="gpt-4.1-2025-04-14")],
        "0.001200",
        "genai-prices",
        basis="genai-prices openai gpt-4.1 batch, cached input as in the standard price",
    ),
    # gpt-4o-mini: batch 0.075 and 0.30. 100 at 0.075 = 7.5; 10 at 0.30 = 3.0: 10.5 millionths a line.
    # Two answered and one failed line with usage: 31.5; the other failed lines have none. Half to even: 32.
    "failed lines": Case(
        [a_result(a_chat_usage(100, 10)) for _ in range(2)],
        "0.000032",
        "genai-prices",
        errors=[
            a_result(a_chat_usage(100, 10), status=500),
            a_result(None, model=None, status=400),
            a_result(a_chat_usage(0, 0), model="nobody-knows", status=400),
        ],
        basis="genai-prices openai gpt-4o-mini batch",
    ),
    # 400 answered lines at 10.5 millionths (as above) before the cancel: 4,200 millionths.
    "cancelled batch with partial output": Case(
        [a_result(a_chat_usage(100, 10)) for _ in range(400)],
        "0.004200",
        "genai-prices",
        errors=[an_unanswered() for _ in range(600)],
        basis="genai-prices openai gpt-4o-mini batch",
    ),
    "unknown model": Case(
        [a_result(a_chat_usage(100, 10)), a_result(a_chat_usage(1, 1), model="nobody-knows")],
        None,
        "unknown",
        reason="UnknownModel",
    ),
    "no model named": Case([a_result(a_chat_usage(100, 10), model=None)], None, "unknown", reason="UnknownModel"),
    # The list has gpt-4o-audio-preview at 2.50 and 10.00, and no batch price: OpenAI publishes half of the standard.
    # 100 at 1.25 = 125; 10 at 5.00 = 50: 175 millionths.
    "known model without a batch price": Case(
        [a_result(a_chat_usage(100, 10), model="gpt-4o-audio-preview")],
        "0.000175",
        "genai-prices",
        basis="half of the standard price",
    ),
    # text-embedding-3-small: standard 0.02, so 0.01 in a batch.
    "embeddings": Case(
        [a_result({"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}, model="text-embedding-3-small")],
        "0.010000",
        "genai-prices",
        basis="half of the standard price, as the provider publishes for batches (genai-prices openai",
    ),
    "embeddings on azure": Case(
        [a_result({"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}, model="text-embedding-3-large")],
        "0.065000",
        "genai-prices",
        provider="azure",
        basis="half of the standard price",
    ),
    "usage missing": Case(
        [a_result(a_chat_usage(100, 10)), a_result(None), a_result({"prompt_tokens": "many"})],
        None,
        "unknown",
        reason="UsageMissing",
        basis="2 answered requests told no usage",
    ),
    "moderations": Case(
        [json.dumps({"custom_id": "m", "response": {"status_code": 200, "body": {"results": []}}}).encode()],
        "0.000000",
        "genai-prices",
        basis="moderations are free",
    ),
    # The answer has the deployment's name; pricing.model says that it is gpt-4o-mini: 0.075 and 0.30.
    # 1,000,000 at 0.075 = 75,000; 500,000 at 0.30 = 150,000: 225,000 millionths.
    "azure deployment name that hides the model": Case(
        [a_result(a_chat_usage(1_000_000, 500_000), model="gpt-4o-mini-general-deployment")],
        "0.225000",
        "genai-prices",
        pricing=HIDDEN,
        provider="azure",
        basis="genai-prices openai gpt-4o-mini batch",
    ),
    # Azure's list has o4-mini at the standard 1.10 and 4.40 only; OpenAI's batch prices are 0.55 and 2.20.
    # 100 at 0.55 = 55; 10 at 2.20 = 22: 77 millionths.
    "azure model whose list has the standard price only": Case(
        [a_result(a_chat_usage(100, 10), model="o4-mini")],
        "0.000077",
        "genai-prices",
        provider="azure",
        basis="genai-prices openai o4-mini batch",
    ),
    # The answer names the model in spite of the deployment's name, and wins over pricing.model: gpt-4o, 1.25 and 5.00.
    # 100 at 1.25 = 125; 10 at 5.00 = 50: 175 millionths.
    "azure answer that names the model": Case(
        [a_result(a_chat_usage(100, 10), model="gpt-4o-2024-08-06")],
        "0.000175",
        "genai-prices",
        pricing=HIDDEN,
        provider="azure",
        basis="genai-prices openai gpt-4o batch",
    ),
    # 10.5 (gpt-4o-mini) + 175 (gpt-4o): 185.5 millionths, half to even: 186. An answer from the cache: no tokens.
    "several models": Case(
        [
            a_result(a_chat_usage(0, 0), model="nobody-knows"),
            a_result(a_chat_usage(100, 10)),
            a_result(a_chat_usage(100, 10), model="gpt-4o"),
        ],
        "0.000186",
        "genai-prices",
        basis="genai-prices openai gpt-4o batch",
    ),
    "nothing answered, prices known": Case([], "0.000000", "spec", errors=[an_unanswered()], pricing=OWN),
    "nothing answered, listed model": Case([], "0.000000", "genai-prices", errors=[an_unanswered()], pricing=HIDDEN),
    "nothing to pay for, model named": Case(
        [a_result(a_chat_usage(0, 0))], "0.000000", "genai-prices", errors=[an_unanswered()]
    ),
    "nothing answered, prices unknown": Case(
        [], "0.000000", "genai-prices", errors=[an_unanswered()], basis="nothing was answered that is billed"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_costs_are_as_worked_out_by_hand(case: Case):
    """Amount, source, reason and basis of a batch's results, from the lines themselves."""
    counter = ResultCounter(PriceBook(case.pricing, case.provider, NOW))
    counter.feed_output(b"\n".join(case.output))
    counter.feed_errors(b"\n".join(case.errors))
    cost = counter.finish().cost

    assert (cost.amount, cost.source, cost.reason) == (case.amount, case.source, case.reason)
    assert case.basis in (cost.basis or "")


def test_an_unknown_cost_has_no_amount_on_the_wire():
    """What is not known is never written as 0."""
    bill = Bill(PriceBook(None, "openai", NOW))
    bill.add("nobody-knows", Tokens(input=1))

    assert bill.cost().wire() == {"currency": "USD", "source": "unknown", "reason": "UnknownModel"}


def test_rounding_happens_once():
    """Three lines of 0.4 millionths make 1.2, rounded to 1; rounded one by one they would make 0."""
    bill = Bill(PriceBook(Pricing(input_per_million_tokens="0.4", output_per_million_tokens="0"), "openai", NOW))
    for _ in range(3):
        bill.add("any", Tokens(input=1))

    assert bill.cost().amount == "0.000001"


def test_no_digit_is_lost_in_long_sums():
    """The longest price times the most tokens keeps its last digit."""
    price = "999999999.999999999"
    bill = Bill(PriceBook(Pricing(input_per_million_tokens=price, output_per_million_tokens="0"), "openai", NOW))
    for _ in range(1000):
        bill.add("any", Tokens(input=1_000_000_000))

    # 10^12 tokens at 999,999,999.999999999 for a million: 10^6 times the price.
    assert bill.cost().amount == "999999999999999.999000"


def a_list(azure: list[ModelInfo], openai: list[ModelInfo]) -> DataSnapshot:
    """A price list of two providers; Azure's falls back to OpenAI's, as the real one."""
    return DataSnapshot(
        providers=[
            Provider(id="azure", name="Azure", api_pattern="a", fallback_model_providers=["openai"], models=azure),
            Provider(id="openai", name="OpenAI", api_pattern="b", models=openai),
        ],
        from_auto_update=False,
    )


def a_model(batch: dict[str, Any] | None, **standard: Any) -> ModelInfo:
    """A model named m."""
    variants = [] if batch is None else [PriceVariant(when={"processing": "batch"}, prices=ModelPrice(**batch))]
    return ModelInfo(id="m", match=ClauseEquals("m"), prices=ModelPrice(**standard), price_variants=variants)


STANDARD = {"input_mtok": Decimal(10), "output_mtok": Decimal(20)}
BATCH = {"input_mtok": Decimal(5), "output_mtok": Decimal(9)}


def usd(book: PriceBook, tokens: Tokens) -> Decimal | NoPrice:
    """Millionths that a line of model m costs."""
    rates = book.resolve("m")
    return rates.millionths(tokens) if isinstance(rates, Rates) else rates


@pytest.mark.parametrize("held", [{"input_mtok": Decimal(5)}, {"output_mtok": Decimal(9)}])
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_a_standard_price_never_stands_in(held: dict[str, Any], provider: Literal["openai", "azure"]):
    """A model whose batch price is missing in part has none, with either provider."""
    model = a_model(held, **STANDARD)
    for azure in ([], [model]):
        book = PriceBook(None, provider, NOW, price_list=a_list(azure, [model]))
        assert book.resolve("m") == NoPrice("NoBatchPrice")


@pytest.mark.parametrize("held", [None, {}])
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_without_any_batch_price_half_of_the_standard_is_taken(
    held: dict[str, Any] | None, provider: Literal["openai", "azure"]
):
    """OpenAI and Microsoft publish that a batch costs half; the words say that it is that."""
    model = a_model(held, **STANDARD)
    for azure in ([], [model]):
        book = PriceBook(None, provider, NOW, price_list=a_list(azure, [model]))
        assert usd(book, Tokens(input=100, output=10)) == 100 * 5 + 10 * 10
        found = book.resolve("m")
        assert isinstance(found, Rates)
        assert "half of the standard price" in found.basis


def test_azures_own_batch_price_comes_first():
    """Once the list has a batch price of Azure's, OpenAI's is not taken in its place."""
    prices = a_list([a_model(BATCH, **STANDARD)], [a_model({"input_mtok": Decimal(1), "output_mtok": Decimal(1)})])

    assert usd(PriceBook(None, "azure", NOW, price_list=prices), Tokens(input=1)) == 5
    # OpenAI's m has a batch price only, and no standard one to compare with.
    assert usd(PriceBook(None, "openai", NOW, price_list=prices), Tokens(input=1)) == NoPrice("NoBatchPrice")


def test_an_entry_for_batches_without_prices_is_no_price():
    """For batches of gpt-3.5-turbo-1106 the list has an entry without a price, and would answer the standard one."""
    found = PriceBook(None, "openai", NOW).resolve("gpt-3.5-turbo-1106")

    assert isinstance(found, Rates)
    assert "half of the standard price" in found.basis
    assert found.input.usd == Decimal("0.5")


def test_prices_hold_from_their_day():
    """The list's batch prices begin on 14 October 2026; before, it is half of the standard ones."""
    before = PriceBook(None, "openai", datetime(2026, 10, 13, tzinfo=UTC)).resolve("gpt-4o-mini")
    since = PriceBook(None, "openai", NOW).resolve("gpt-4o-mini")

    assert isinstance(before, Rates)
    assert isinstance(since, Rates)
    assert "half of" in before.basis
    assert "half of" not in since.basis


def test_a_tier_holds_for_all_tokens_of_a_line_over_its_start():
    """Input over the start makes the whole line dear, cached input and output too; input at the start does not."""

    def tiered(low: int, high: int) -> TieredPrices:
        return TieredPrices(base=Decimal(low), tiers=[Tier(start=100, price=Decimal(high))])

    batch = {"input_mtok": tiered(5, 10), "cache_read_mtok": tiered(1, 2), "output_mtok": tiered(9, 13)}
    book = PriceBook(None, "openai", NOW, price_list=a_list([], [a_model(batch, **STANDARD)]))

    # 90 at 5 = 450; 10 at 1 = 10; 2 at 9 = 18.
    assert usd(book, Tokens(input=100, cached=10, output=2)) == 478
    # 91 at 10 = 910; 10 at 2 = 20; 2 at 13 = 26.
    assert usd(book, Tokens(input=101, cached=10, output=2)) == 956


@pytest.mark.parametrize(("cached", "want"), [(None, 5), (Decimal(3), 3), (Decimal(8), 5)])
def test_cached_input_is_never_dearer_than_input(cached: Decimal | None, want: int):
    """Cached input without a batch price goes at the list's standing rate, but at most at the batch price of input."""
    model = a_model(BATCH, **STANDARD, cache_read_mtok=cached)
    book = PriceBook(None, "openai", NOW, price_list=a_list([], [model]))

    assert usd(book, Tokens(input=1, cached=1)) == want


def test_tokens_written_to_the_cache_have_their_own_price():
    """1 of 3 input tokens was written at 6, the other two cost 5; without a batch price it is plain input."""
    for held, want in (({"cache_write_mtok": Decimal(6)}, 16), ({}, 15)):
        model = a_model({**BATCH, **held}, **STANDARD, cache_write_mtok=Decimal(12))
        book = PriceBook(None, "openai", NOW, price_list=a_list([], [model]))
        assert usd(book, Tokens(input=3, written=1)) == want


def test_what_the_list_has_no_price_for_is_not_free():
    """Output of a model that makes none, and tokens of sound or images, leave the cost unknown."""
    embedding = a_model({"input_mtok": Decimal(5)}, input_mtok=Decimal(10))
    book = PriceBook(None, "openai", NOW, price_list=a_list([], [embedding]))

    assert usd(book, Tokens(input=2)) == 10
    assert usd(book, Tokens(input=2, output=1)) == NoPrice("NoBatchPrice")
    assert usd(book, Tokens(input=2, other=1)) == NoPrice("NoModalityPrice")
    assert usd(PriceBook(OWN, "openai", NOW), Tokens(input=2, other=1)) == Decimal("0.15")


def test_half_given_prices_are_not_taken():
    """An input price without an output price (which the schema refuses) falls to the list."""
    book = PriceBook(Pricing(input_per_million_tokens="1"), "openai", NOW)

    assert book.resolve("nobody-knows") == NoPrice("UnknownModel")


def test_a_model_is_looked_up_once():
    """A look-up takes longer than a whole line, so its answer is kept."""
    book = PriceBook(None, "openai", NOW)

    assert book.resolve("gpt-4o") is book.resolve("gpt-4o")


def test_many_model_names_take_no_memory():
    """Names come from answers, so only so many are kept."""
    book = PriceBook(None, "openai", NOW)
    for n in range(1000):
        assert book.resolve(f"nobody-knows-{n}") == NoPrice("UnknownModel")

    assert len(book._known) <= 64
    assert book.resolve("x" * 1_000_000) == NoPrice("UnknownModel")


def test_the_basis_is_bounded():
    """However many models answered, the words fit into the status."""
    models = [
        ModelInfo(
            id=f"{n}",
            match=ClauseEquals(f"{n}"),
            prices=ModelPrice(**STANDARD),
            price_variants=[PriceVariant(when={"processing": "batch"}, prices=ModelPrice(**BATCH))],
        )
        for n in range(100)
    ]
    bill = Bill(PriceBook(None, "openai", NOW, price_list=a_list([], models)))
    for n in range(100):
        bill.add(f"{n}", Tokens(input=1))

    cost = bill.cost()
    assert cost.amount == "0.000500"
    assert Cost.model_validate(cost.wire()) == cost
