"""When it is, for the policy: the schedules that a moment is in, looked at again once a minute."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from appliance.config.rules import Schedule
from appliance.policy.request import Moment
from appliance.policy.sets import active_schedules


class Clock:
    """Moments in the time zone of this name, as decisions take them."""

    __slots__ = ("_active", "_minute", "_schedules", "_zone")

    def __init__(self, schedules: Iterable[Schedule], timezone: str) -> None:
        self._schedules = tuple(schedules)
        self._zone = ZoneInfo(timezone)
        self._minute = -1
        self._active: frozenset[str] = frozenset()

    def at(self, time: float) -> Moment:
        """The moment of ``time``, seconds since 1970."""
        minute = int(time // 60)
        if minute != self._minute:
            self._minute = minute
            self._active = active_schedules(self._schedules, datetime.fromtimestamp(time, self._zone))
        return Moment(time, self._active)
