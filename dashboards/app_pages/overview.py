"""Overview: the ten headline KPIs."""

from dashboards import queries
from dashboards.components import cards, filters, frame, text
from dashboards.components import format as shown


def body() -> None:
    chosen = filters.bar()
    text.line(shown.range_sentence(chosen.start, chosen.end))
    cards.row(queries.HEADLINE, chosen)


frame.page("Overview", "The ten headline KPIs against the same length of time before. The ? on a card says what it means.", body)
