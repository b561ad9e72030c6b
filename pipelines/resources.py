"""What every asset of a run shares: the home, the instant the run speaks of, the writing lock and the record for as long as the run lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dagster import ConfigurableResource, InitResourceContext
from pydantic import PrivateAttr

from data_contracts.environment import Home, find_home
from models import warehouse
from pipelines import run_record
from pipelines.batches import utc_now

LOCK_WAIT_SECONDS = 5.0   # a publish that is just ending is waited for; a whole run is not


class RunContext(ConfigurableResource):
    """`home_path`: folder of the home. `as_of`: ISO instant the run speaks of (empty: now). `full_refresh`: rebuild incremental models."""

    home_path: str
    as_of: str = ""
    full_refresh: bool = False
    _now: datetime | None = PrivateAttr(default=None)
    _run_id: str = PrivateAttr(default="")

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> "Iterator[RunContext]":
        with warehouse.locked(self.home, LOCK_WAIT_SECONDS):
            self._now, self._run_id = utc_now(), context.run_id or ""
            with run_record.kept(self.home, self._run_id, context.instance):
                yield self

    @property
    def home(self) -> Home:
        return find_home(self.home_path)

    @property
    def run_id(self) -> str:
        """Dagster's id of the run."""
        return self._run_id

    @property
    def is_stated(self) -> bool:
        """Whether somebody said as of when the data are complete."""
        return bool(self.as_of)

    @property
    def instant(self) -> datetime:
        """The instant the run speaks of, naive UTC."""
        if self.as_of:
            stated = datetime.fromisoformat(self.as_of)
            return stated.astimezone(UTC).replace(tzinfo=None) if stated.tzinfo else stated
        return self._now or utc_now()
