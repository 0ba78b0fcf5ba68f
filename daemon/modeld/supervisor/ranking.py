"""What each model is worth now: `core.rank` over the catalogue and the state."""

from modeld.config.schema import Config
from modeld.core.entities import ModelStats
from modeld.core.rank import RankTerms, Weights, documented, rank_terms
from modeld.core.replay import Rules
from modeld.supervisor import settings
from modeld.supervisor.world import World


def weights(config: Config) -> Weights:
    """Return the weights of the rank as the core has them."""
    given = config.rank.weights
    return Weights(
        recent_7d=given.recent_7d,
        recent_30d=given.recent_30d,
        total=given.total,
        recency_days=given.recency_days,
        idle_day=given.idle_day,
    )


def rules(config: Config) -> Rules:
    """Return everything that decides about the SSD, for a simulation."""
    return Rules(
        policy=settings.cache_policy(config),
        weights=weights(config),
        formula=config.rank.formula,
        runtime_weight=config.rank.runtime_weight,
    )


def terms(world: World) -> dict[str, RankTerms]:
    """Return the rank of every model in the catalogue, with its terms, by id."""
    rank = world.config.rank
    return rank_terms(
        {model.id: (world.stats_of(model.id), model) for model in world.models.values()},
        now=world.ports.clock.now(),
        weights=weights(world.config),
        formula=rank.formula,
        runtime_weight=rank.runtime_weight,
    )


def rank_then(world: World, stats: ModelStats, now: float) -> RankTerms:
    """Return the rank that a history gave at some moment.  `now`: [unix s]."""
    runtime_weight = world.config.rank.runtime_weight
    return documented(stats, now, weights(world.config), runtime_weight=runtime_weight)


def ranks(world: World) -> dict[str, float]:
    """Return the rank of every model in the catalogue, by id."""
    return {model_id: each.rank for model_id, each in terms(world).items()}
