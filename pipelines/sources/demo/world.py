"""The fixed facts of the simulated company: its markets, channels, catalogue, plans, stages and the numbers behind behaviour.

Belongs here: constants, each with its unit. Random draws and the writing of rows do not belong here. All names are invented;
e-mail domains are the reserved example ones.
"""

from dataclasses import dataclass

import numpy as np

REPORTING_CURRENCY = "EUR"
"""Currency in which the simulator thinks; customers pay in their country's."""

INTERNAL_DOMAIN = "fernwood.example"
"""E-mail domain of the company's own staff: an account with it is a test account even where nobody ticked the box."""

CURRENCIES = ("EUR", "USD", "GBP", "CHF", "SEK")
STARTING_RATES = np.array([1.0, 1.09, 0.86, 0.96, 11.3])
"""Units of each currency for one euro on the first day."""

YEARLY_RATE_VOLATILITY = np.array([0.0, 0.07, 0.05, 0.05, 0.06])


@dataclass(frozen=True)
class Country:
    """One market."""

    code: str
    currency: str
    language: str
    share: float
    vat: float
    dialling_code: str
    cities: tuple[tuple[str, str], ...]  # (region, city)


COUNTRIES = (
    Country("DE", "EUR", "de", 0.38, 0.19, "+49", (("BE", "Berlin"), ("BY", "München"), ("HH", "Hamburg"), ("NW", "Köln"))),
    Country("AT", "EUR", "de", 0.08, 0.20, "+43", (("9", "Wien"), ("6", "Graz"), ("5", "Salzburg"))),
    Country("FR", "EUR", "fr", 0.14, 0.20, "+33", (("IDF", "Paris"), ("ARA", "Lyon"), ("PAC", "Marseille"))),
    Country("NL", "EUR", "nl", 0.08, 0.21, "+31", (("NH", "Amsterdam"), ("ZH", "Rotterdam"), ("UT", "Utrecht"))),
    Country("GB", "GBP", "en", 0.12, 0.20, "+44", (("LND", "London"), ("MAN", "Manchester"), ("BST", "Bristol"))),
    Country("US", "USD", "en", 0.10, 0.0, "+1", (("NY", "New York"), ("CA", "San Francisco"), ("TX", "Austin"))),
    Country("CH", "CHF", "de", 0.05, 0.081, "+41", (("ZH", "Zürich"), ("BE", "Bern"), ("GE", "Genève"))),
    Country("SE", "SEK", "sv", 0.05, 0.25, "+46", (("AB", "Stockholm"), ("O", "Göteborg"), ("M", "Malmö"))),
)


@dataclass(frozen=True)
class Channel:
    """How people come, what it costs and what they are worth.

    `buyer_probability` × `value_multiplier` is the channel's true quality. `closing_share` says how often the channel is a
    *later* touch of somebody whom another channel drew: it costs and earns nothing there, and misleads a last-touch view.
    """

    name: str
    medium: str
    share: float  # of the people who sign up by themselves
    lead_share: float  # of the people who come as leads
    cost: float  # euro of advertising per person drawn
    buyer_probability: float
    value_multiplier: float
    lead_logit: float  # of conversion, before rating, size and engagement
    lag_days: float  # median, lead to conversion
    closing_share: float

    @property
    def quality(self) -> float:
        """Expected buyers per person drawn, weighted by what one order is worth relative to the average."""
        return self.buyer_probability * self.value_multiplier


CHANNELS = (
    Channel("organic_search", "organic", 0.20, 0.15, 0.0, 0.64, 1.05, -1.5, 12.0, 0.10),
    Channel("paid_search", "cpc", 0.18, 0.15, 36.0, 0.48, 0.92, -1.9, 12.0, 0.30),
    Channel("paid_social", "paid_social", 0.17, 0.16, 24.0, 0.36, 0.82, -2.5, 18.0, 0.08),
    Channel("display", "display", 0.08, 0.09, 13.0, 0.26, 0.75, -3.0, 25.0, 0.07),
    Channel("email", "email", 0.06, 0.06, 6.0, 0.54, 1.00, -1.7, 10.0, 0.20),
    Channel("referral", "referral", 0.10, 0.09, 18.0, 0.78, 1.22, -0.9, 8.0, 0.01),
    Channel("events", "event", 0.05, 0.11, 95.0, 0.68, 1.18, -1.2, 26.0, 0.01),
    Channel("partner", "partner", 0.07, 0.10, 52.0, 0.70, 1.14, -1.1, 20.0, 0.02),
    Channel("direct", "none", 0.09, 0.09, 0.0, 0.55, 1.00, -1.7, 10.0, 0.21),
)
CHANNEL_NAMES = tuple(channel.name for channel in CHANNELS)
PAID = np.array([channel.cost > 0 for channel in CHANNELS])

# Purchases follow BG/NBD: rate ~ gamma(shape, scale 1/WEEKS), and after each repeat order one leaves with probability ~ beta.
PURCHASE_SHAPE = 0.85
PURCHASE_WEEKS = 8.5
DROPOUT_A = 0.9
DROPOUT_B = 3.0

# Spend follows gamma-gamma: order value ~ gamma(P, scale 1/nu), nu ~ gamma(Q, scale 1/GAMMA); mean P * GAMMA / (Q - 1) = 84 euro.
SPEND_P = 4.0
SPEND_Q = 5.0
SPEND_GAMMA = 84.0

CATEGORIES = (
    ("Coffee", ("Beans", "Capsules", "Filter")),
    ("Tea", ("Green", "Black", "Herbal")),
    ("Brewing", ("Grinders", "Kettles", "Scales")),
    ("Tableware", ("Cups", "Glasses", "Trays")),
    ("Care", ("Descaling", "Brushes", "Parts")),
)
PRODUCTS = 60

PLANS = (("Starter", 19.0), ("Office", 49.0), ("Team", 99.0), ("Site", 249.0))
"""Monthly price of one seat in euro."""

INTERVALS = ("month", "year", "quarter", "week", "day")
INTERVAL_SHARE = np.array([0.70, 0.17, 0.08, 0.04, 0.01])
INTERVAL_FACTOR = np.array([1.0, 12 * 0.9, 3 * 0.95, 12 / 52, 12 / 365])
"""Price of an interval in months of the plan's price; longer ones are discounted."""

STAGES = ("new", "qualified", "proposal", "negotiation", "won", "lost")
STAGE_PERCENT = np.array([10, 25, 50, 75, 100, 0])
PIPELINES = ("new_business", "expansion")
LOST_REASONS = ("price", "no budget", "competitor", "no reply", "missing feature", "bad timing")
DISQUALIFIED_REASONS = ("not a fit", "wrong contact data", "student project", "competitor", "no budget")

INDUSTRIES = ("Hospitality", "Retail", "Software", "Health", "Education", "Manufacturing", "Media", "Logistics")
COMPANY_WORDS = (
    "Alder", "Birch", "Cedar", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Iris", "Juniper", "Kestrel", "Lumen",
    "Meadow", "Nimbus", "Orchard", "Pioneer", "Quartz", "Raven", "Summit", "Tidal", "Umber", "Violet", "Willow", "Zephyr",
)  # fmt: skip
COMPANY_ENDINGS = ("Works", "Group", "Studios", "Systems", "Foods", "Partners", "Labs", "Trading", "Hotels", "Clinics")
LEGAL_FORMS = ("GmbH", "AG", "Ltd", "SAS", "BV", "Inc", "AB")
FEMALE_NAMES = (
    "Anna", "Beatrix", "Clara", "Dora", "Elif", "Freya", "Greta", "Hanna", "Ines", "Julia", "Katja", "Lena", "Mira", "Nadia",
    "Olga", "Paula", "Rosa", "Sofia", "Tilda", "Zoé",
)  # fmt: skip
MALE_NAMES = (
    "Adam", "Bruno", "Carl", "David", "Emil", "Felix", "Georg", "Hugo", "Ivan", "Jonas", "Karim", "Leo", "Milan", "Noah",
    "Oskar", "Pablo", "René", "Samuel", "Tom", "Viktor",
)  # fmt: skip
GIVEN_NAMES = FEMALE_NAMES + MALE_NAMES
FAMILY_NAMES = (
    "Abel", "Bauer", "Costa", "Dietrich", "Ekström", "Fischer", "Garnier", "Hoffmann", "Ibsen", "Jansen", "Keller", "Lindgren",
    "Moreau", "Novak", "O'Brien", "Petit", "Quist", "Rossi", "Schäfer", "Taylor", "Ulrich", "Vogel", "Weber", "Yilmaz",
    "Zeller", "Bakker", "Clarke", "Dubois", "Evans", "Fontaine",
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net", "post.example", "letterbox.example")
TEAMS = ("Sales North", "Sales South", "Sales International", "Support", "Marketing")

EVENT_NAMES = ("login", "view_product", "search", "add_to_wishlist", "read_article", "open_app", "change_settings")
CASE_CATEGORIES = ("delivery", "billing", "product fault", "account", "question", "cancellation")
COMPLAINT_CATEGORIES = (0, 1, 2, 5)


def shares(values: list[float] | np.ndarray) -> np.ndarray:
    """Scale weights to sum 1."""
    weights = np.asarray(values, dtype=float)
    return weights / weights.sum()
