"""What each model is worth now: `core.rank` over the catalogue and the state."""

from modeld.core.rank import RankTerms, Weights, rank_terms
from modeld.supervisor.world import World


def terms(world: World) -> dict[str, RankTerms]:
    """Return the rank of every model in the catalogue, with its terms, by id."""
    rank = world.config.rank
    weights = Weights(
        recent_7d=rank.weights.recent_7d,
        recent_30d=rank.weights.recent_30d,
        total=rank.weights.total,
        recency_days=rank.weights.recency_days,
        idle_day=rank.weights.idle_day,
    )
    return rank_terms(
        {model.id: (world.stats_of(model.id), model) for model in world.models.values()},
        now=world.ports.clock.now(),
        weights=weights,
        formula=rank.formula,
        runtime_weight=rank.runtime_weight,
    )


def ranks(world: World) -> dict[str, float]:
    """Return the rank of every model in the catalogue, by id."""
    return {model_id: each.rank for model_id, each in terms(world).items()}
