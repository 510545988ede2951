"""The tasks, one file each, which ends with `TASK = ...`; `optkit.models.task` has their names."""

from __future__ import annotations

from optkit.models.task import TASKS as TASKS
