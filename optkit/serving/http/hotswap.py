"""Hot swap: a folder whose files change becomes the next version, without a dropped request.

Replace the folder (`optkit compress --force` does, or a link that is pointed elsewhere); every worker
sees it. No request can ask for it, so none can name a path. A version that cannot be loaded is
reported once, and the old one goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from optkit.core.artifact import state
from optkit.serving.http.logs import log
from optkit.serving.http.metrics import Metrics
from optkit.serving.http.model_slot import Served


class Watcher:
    """Looks at the folders every `seconds`, in a thread. `swap` puts a version in place, on the loop.

    `seen` is how each folder was before it was read, by its model's name: what changed since is looked at.
    """

    def __init__(
        self,
        models: Sequence[Served],
        seen: Mapping[str, tuple[object, ...]],
        seconds: float,
        metrics: Metrics,
        swap: Callable[..., object],
    ) -> None:
        self._models, self._seconds, self._metrics, self._swap = models, seconds, metrics, swap
        self._seen = dict(seen)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Load every folder that is not as it was."""
        for served in self._models:
            now = state(served.path)
            if now and now != self._seen[served.name]:
                self._seen[served.name] = now
                self._load(served)

    def _load(self, served: Served) -> None:
        metrics = self._metrics.of(served.name)
        try:
            version = served.open()
        except Exception as error:  # whatever is wrong with it, the old version serves
            metrics.swapped("refused")
            log("error", "swap refused", model=served.name, error=type(error).__name__, reason=str(error))
            return
        old = served.current
        if version.predictor.task.name != served.task.name:
            metrics.swapped("refused")
            log("error", "swap refused", model=served.name, reason="it is a model for another task")
            version.close()
            return
        if version.same_as(old):
            version.close()
            return
        self._swap(served, version)
        metrics.swapped("done")
        log("info", "swapped", model=served.name, old=old.name, new=version.name)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()
