from __future__ import annotations

from optkit.serving.http.crowd import Crowd


class Member:
    entered = False

    def __init__(self, name, ended):
        self.name, self._ended = name, ended

    def give_way(self):
        self._ended.append(self.name)


def test_the_longest_idle_makes_room_and_a_busy_one_never():
    ended = []
    a, b, c, d, e = (Member(name, ended) for name in "abcde")
    crowd = Crowd(2)
    assert all(map(crowd.enter, (a, b)))
    crowd.idle(a)  # it was idle first, and has been used since
    assert crowd.enter(c)
    assert ended == ["b"]
    crowd.busy(a)
    crowd.busy(c)
    assert not crowd.enter(d)
    crowd.idle(c)
    assert crowd.enter(d)
    assert ended == ["b", "c"]
    crowd.leave(c)
    crowd.leave(d)
    assert crowd.enter(e)
    assert ended == ["b", "c"]
