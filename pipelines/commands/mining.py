"""Commands on mined patterns: RFM, what is bought together, groups of customers."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from data_contracts.environment import find_home
from pipelines.commands.metrics import day
from pipelines.commands.options import FormatOption, HomeOption, OutputFormat, OutputOption

cluster_app = typer.Typer(no_args_is_help=True, help="Groups of customers who behave alike. A group keeps its id from refit to refit; groups that do not come back in refits on half of the customers are not shown.")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(rfm)
    app.command()(rules)
    app.command(name="next-products")(next_products)
    app.add_typer(cluster_app, name="cluster")


def rfm(by: Annotated[str, typer.Option(help="segment, cell (all 125 combinations of scores, empty ones too) or customer.")] = "segment",
        as_of: Annotated[Optional[str], typer.Option("--as-of", metavar="DATE", help="As it was at the end of this day; default: the published scores.")] = None,
        window: Annotated[Optional[int], typer.Option("--window", metavar="DAYS", help="Only orders of so many days before; default: all of history.")] = None,
        form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Customers by recency, frequency and monetary value, each scored 1 to 5 by value quantile: 5 is the most recent, most frequent, most valuable.

    Recency is days since the last order that was not fully refunded, frequency counts orders, monetary is net revenue. `rapport segment` can use the RFM segment as an attribute.
    """
    from models import analysis, patterns, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = patterns.rfm(opened.con, by, day(as_of, "--as-of"), window)
        note = f"amounts in {analysis.settings(opened.con)['reporting_currency']}; as of {as_of or opened.snapshot.watermark}, {f'orders of {window} days' if window else 'all orders'}; snapshot {opened.snapshot.id}"
    emit(frame, form.value, output, notes=[note] if form is OutputFormat.table else [])


def rules(item: Annotated[Optional[str], typer.Option("--for", metavar="PRODUCT", help="Only rules that start at this product or category: its id, or a part of its name.")] = None,
          by: Annotated[str, typer.Option(help="order: in one basket; customer: ever, in any order.")] = "order",
          level: Annotated[str, typer.Option(help="product or category.")] = "product",
          limit: Annotated[int, typer.Option(min=1, help="Rules shown in a table; other formats carry all.")] = 30,
          form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """What is bought together: `antecedent → consequent` with support, confidence, lift, leverage, conviction and the share of false discoveries (q_value).

    Confidence is the share of the antecedent's baskets that hold the consequent too; lift is how many times its share of all baskets that is. A rule is listed only if it is more frequent
    than chance allows even in baskets of these sizes, controlled over every pair that was tested (Benjamini-Hochberg, 5 %). The 25 strongest rules of each antecedent are kept.
    """
    from models import patterns, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = patterns.rules(opened.con, item, by, level, limit if form is OutputFormat.table else None)
        notes = [f"{r['pattern']}: {r['verdict']}" for r in patterns.verdicts(opened.con).iter_rows(named=True) if r["pattern"] == patterns.named(level, by)]
        notes.append(f"snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}")
    if form is OutputFormat.table:
        frame = frame.select("antecedent_name", "consequent_name", "antecedent_count", "together_count", "support", "confidence", "lift", "leverage", "conviction", "q_value")
    emit(frame, form.value, output, notes=notes if form is OutputFormat.table else [])


def next_products(customer: Annotated[Optional[str], typer.Option(help="One customer's id; default: everybody.")] = None,
                  form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Up to three products each customer may want next, by rule: bought by those who own `because_product_id`. Listed only where such picks beat the best sellers on later data."""
    from models import patterns, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = patterns.next_products(opened.con, customer)
        notes = [f"{r['pattern']}: {r['verdict']}" for r in patterns.verdicts(opened.con).iter_rows(named=True) if r["pattern"] == "next products"]
    emit(frame, form.value, output, notes=notes)


@cluster_app.command(name="list")
def cluster_list(form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """Every group with its size, revenue and stability (mean Jaccard similarity over refits; 1 = always the same customers), or the reason why there is none."""
    from models import analysis, patterns, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = patterns.clusters(opened.con)
        notes = [f"{r['pattern']}: {r['verdict']}" for r in patterns.verdicts(opened.con).iter_rows(named=True) if r["pattern"] == "customer clusters"]
        notes.append(f"amounts in {analysis.settings(opened.con)['reporting_currency']}; snapshot {opened.snapshot.id}, data up to {opened.snapshot.watermark}")
    emit(frame, form.value, output, notes=notes)


@cluster_app.command(name="show")
def cluster_show(cluster_id: Annotated[int, typer.Argument(metavar="ID", help="An id from `rapport cluster list`.")],
                 members: Annotated[bool, typer.Option("--members", help="The members instead, those nearest to the centre first.")] = False,
                 form: FormatOption = OutputFormat.table, output: OutputOption = None, home: HomeOption = None) -> None:
    """What sets a group apart: its mean beside that of all buyers, the largest difference first (in robust standard units)."""
    from models import patterns, warehouse
    from pipelines.output import emit
    with warehouse.reading(find_home(home)) as opened:
        frame = patterns.cluster_members(opened.con, cluster_id) if members else patterns.profiles(opened.con, cluster_id)
    emit(frame, form.value, output)
