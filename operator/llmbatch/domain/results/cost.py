"""What results cost, at batch prices, or that it is not known: never at the standard price by accident."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from genai_prices import __version__ as list_version
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, TieredPrices

from llmbatch.api.batchjob import Cost
from llmbatch.api.modeldeployment import Pricing

PROCESSING = {"processing": "batch"}
NO_BATCH_PRICE = "NoBatchPrice"
UNKNOWN_MODEL = "UnknownModel"
NO_MODALITY_PRICE = "NoModalityPrice"
USAGE_MISSING = "UsageMissing"

_HALF = Decimal("0.5")

_MILLION = Decimal(1_000_000)
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Wide enough that no sum of lines is ever rounded: 10 digits of tokens, 18 of a price, and any number of lines."""
_PLACES = Decimal("0.000001")
_MAX_MODEL_CHARACTERS = 256
_KEPT_MODELS = 64
_MAX_BASIS_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one line. ``cached`` and ``written`` (to the cache) are parts of ``input``.

    ``other`` are those of sound and images, in input and output, which the price list prices by themselves.
    """

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    other: int = 0

    @property
    def none(self) -> bool:
        """Whether there is nothing to pay for."""
        return not self.input and not self.output


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens; a tier's price holds for all tokens of a line whose input is over its start."""

    usd: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The price that holds for a line with so much input."""
        usd = self.usd
        for start, price in self.tiers:
            if input_tokens > start:
                usd = price
        return usd


@dataclass(frozen=True, slots=True)
class Rates:
    """Batch prices of one model; ``basis`` says in words which ones they are. No ``output``: it makes none."""

    source: Literal["spec", "genai-prices"]
    basis: str
    input: Price
    cached: Price
    written: Price
    output: Price | None

    def millionths(self, tokens: Tokens) -> Decimal | NoPrice:
        """Exact cost of one line, in millionths of a USD."""
        if tokens.output and self.output is None:
            return NoPrice(NO_BATCH_PRICE)
        if tokens.other and self.source != "spec":
            return NoPrice(NO_MODALITY_PRICE)
        size = tokens.input
        parts = (
            (size - tokens.cached - tokens.written, self.input),
            (tokens.cached, self.cached),
            (tokens.written, self.written),
            (tokens.output, self.output),
        )
        total = Decimal(0)
        for count, price in parts:
            if count and price:
                total = _EXACT.add(total, _EXACT.multiply(Decimal(count), price.at(size)))
        return total


@dataclass(frozen=True, slots=True)
class NoPrice:
    """Why there is no batch price: NoBatchPrice, UnknownModel or NoModalityPrice (sound or images in the tokens)."""

    reason: str


class PriceBook:
    """The batch prices of one deployment's models, at one moment.

    ``pricing`` is the deployment's own and wins over the price list; ``at`` is when the batch ran, as prices of the
    list have days from which they hold. Each model is looked up once (66 µs).
    """

    def __init__(
        self,
        pricing: Pricing | None,
        provider: Literal["openai", "azure"],
        at: datetime,
        *,
        price_list: DataSnapshot | None = None,
    ) -> None:
        self._pricing = pricing or Pricing()
        self._provider = provider
        self._at = at
        self._list = price_list
        self._known: dict[str | None, Rates | NoPrice] = {}

    def resolve(self, model: str | None) -> Rates | NoPrice:
        """The prices of the model that a line names; without a name that the list knows, ``pricing.model``'s.

        A name that the list does not know may be an Azure deployment's, which hides the model.
        """
        found = self._known.get(model)
        if found is None:
            found = self._spec() or self._listed(model)
            if len(self._known) < _KEPT_MODELS:
                self._known[model] = found
        return found

    @property
    def preferred(self) -> Literal["spec", "genai-prices"]:
        """Where prices would come from."""
        return "spec" if self._spec() else "genai-prices"

    def _spec(self) -> Rates | None:
        spec = self._pricing
        if spec.input_per_million_tokens is None or spec.output_per_million_tokens is None:
            return None
        price = Price(Decimal(spec.input_per_million_tokens))
        cached = spec.cached_input_per_million_tokens
        return Rates(
            source="spec",
            basis="spec.pricing",
            input=price,
            cached=price if cached is None else Price(Decimal(cached)),
            written=price,
            output=Price(Decimal(spec.output_per_million_tokens)),
        )

    def _listed(self, model: str | None) -> Rates | NoPrice:
        for name in (model, self._pricing.model):
            if not name or len(name) > _MAX_MODEL_CHARACTERS:
                continue
            found = self._look_up(name)
            if found:
                return found
        return NoPrice(UNKNOWN_MODEL)

    def _look_up(self, name: str) -> Rates | NoPrice | None:
        """Azure's own batch price before OpenAI's; None where neither list has the model."""
        found: list[tuple[str, ModelInfo]] = []
        for provider in ("azure", "openai") if self._provider == "azure" else ("openai",):
            listed = next((p for p in (self._list or get_snapshot()).providers if p.id == provider), None)
            # Without the other providers, or the list falls back to one of them and to its standard price.
            model = listed.find_model(name) if listed else None
            if model:
                found.append((provider, model))
                basis = f"genai-prices {provider} {model.id} batch"
                if rates := batch_rates(model, self._at, basis):
                    return rates
        for provider, model in found:
            if rates := half_rates(model, self._at, f"genai-prices {provider} {model.id}"):
                return rates
        return NoPrice(NO_BATCH_PRICE) if found else None


def batch_rates(model: ModelInfo, at: datetime, basis: str) -> Rates | None:
    """The model's batch prices at a moment, or None where the list has no batch price for its input or its output.

    genai-prices answers with the standard price where it holds no batch price, so it is asked for what it holds. Its
    batch tables leave out cached input where OpenAI's do; its statement for those is that the standard rate for cached
    input goes on. It is taken, but never above the price of input that is not cached.
    """
    held: dict[str, object] = {}
    for variant in model.price_variants or ():
        if _for_batches(variant, at):
            for key, price in vars(variant.prices).items():
                held.setdefault(key, price)
    standard, batch = model.get_prices(at), model.get_prices(at, PROCESSING)
    needed = [key for key in ("input_mtok", "output_mtok") if getattr(standard, key) is not None]
    if not needed or any(held.get(key) is None for key in needed):
        return None
    paid = _price(batch, "input_mtok")
    if paid is None:
        return None
    cached = _price(batch, "cache_read_mtok") or paid
    notes = [basis]
    if held.get("cache_read_mtok") is None:
        cached = min(cached, paid, key=lambda price: price.usd)
        if cached != paid:
            notes.append("cached input as in the standard price")
    written = _price(batch, "cache_write_mtok") if held.get("cache_write_mtok") is not None else None
    notes.append(f"data of release {list_version}")
    return Rates("genai-prices", ", ".join(notes), paid, cached, written or paid, _price(batch, "output_mtok"))


def half_rates(model: ModelInfo, at: datetime, basis: str) -> Rates | None:
    """Half of the model's standard prices, or None where the list has none for its input, or some batch price of its.

    OpenAI (Batch API guide) and Microsoft (Global Batch) publish that a batch costs half of the standard price; the
    list leaves out the batch prices of most of their models. For no other provider.
    """
    if any(_for_batches(variant, at) and _has_prices(variant.prices) for variant in model.price_variants or ()):
        return None
    standard = model.get_prices(at)
    paid, made = _half(standard, "input_mtok"), _half(standard, "output_mtok")
    if paid is None:
        return None
    cached = min(_price(standard, "cache_read_mtok") or paid, paid, key=lambda price: price.usd)
    words = (
        f"half of the standard price, as the provider publishes for batches ({basis}, data of release {list_version})"
    )
    return Rates("genai-prices", words, paid, cached, paid, made)


def _has_prices(prices: ModelPrice) -> bool:
    return prices.input_mtok is not None or prices.output_mtok is not None


def _half(prices: ModelPrice, key: str) -> Price | None:
    price = _price(prices, key)
    if price is None:
        return None
    return Price(price.usd * _HALF, tuple((start, usd * _HALF) for start, usd in price.tiers))


def _for_batches(variant: PriceVariant, at: datetime) -> bool:
    active = variant.constraint is None or variant.constraint.active(at)
    return active and all(PROCESSING.get(key) == value for key, value in variant.when.items())


def _price(prices: ModelPrice, key: str) -> Price | None:
    value = getattr(prices, key)
    if isinstance(value, TieredPrices):
        return Price(value.base, tuple((tier.start, tier.price) for tier in value.tiers))
    return None if value is None else Price(value)


class Bill:
    """Adds up what lines cost; rounds once, at the end."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self._millionths = Decimal(0)
        self._applied: dict[str, Rates] = {}
        self._unknown: NoPrice | None = None
        self._model: str | None = None
        self._free = False
        self.without_usage = 0
        """Answered lines that told no usage, and are not free by nature."""

    def add_without_usage(self, *, free: bool) -> None:
        """One answered line without usage; ``free`` where the provider bills nothing for its kind (moderations)."""
        if free:
            self._free = True
        else:
            self.without_usage += 1

    def add(self, model: str | None, tokens: Tokens) -> None:
        """One line, and the model that it names. A line without tokens costs nothing, whatever its model."""
        self._model = self._model or model
        if tokens.none or self._unknown:
            return
        rates = self._prices.resolve(model)
        cost = rates.millionths(tokens) if isinstance(rates, Rates) else rates
        if isinstance(cost, NoPrice):
            self._unknown = cost
        elif isinstance(rates, Rates):
            self._millionths = _EXACT.add(self._millionths, cost)
            self._applied.setdefault(rates.basis, rates)

    def cost(self) -> Cost:
        """All lines together; unknown, without an amount, as soon as one with tokens has no price, or an answered one
        told no usage. Without any tokens it is 0: nothing that is billed was answered.
        """
        if self.without_usage:
            basis = f"{self.without_usage} answered requests told no usage"
            return Cost(source="unknown", reason=USAGE_MISSING, basis=basis)
        if not self._unknown and not self._applied:
            basis = "moderations are free" if self._free else "nothing was answered that is billed"
            return Cost(amount=self._amount(), source=self._prices.preferred, basis=basis)
        if self._unknown:
            return Cost(source="unknown", reason=self._unknown.reason)
        source = next(iter(self._applied.values())).source
        return Cost(amount=self._amount(), source=source, basis=_joined(self._applied))

    def _amount(self) -> str:
        usd = _EXACT.divide(self._millionths, _MILLION)
        return f"{usd.quantize(_PLACES, context=_EXACT):f}"


def _joined(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return text if len(text) <= _MAX_BASIS_CHARACTERS else text[: _MAX_BASIS_CHARACTERS - 1] + "…"
