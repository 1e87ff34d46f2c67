"""Fixtures: a pool of each release for the whole session, without and with condor-ledge.

    @pytest.mark.both_pools         also on releases after the first (tests/pool/releases.py)
    @pytest.mark.since_htcondor(25, 4)      what older versions cannot do
    @pytest.mark.machine("container")       needs no controllers and no kernel of its own
    @pytest.mark.quiet              comes last
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.condor import Pool
from tests.pool.errors import PoolError
from tests.pool.progress import on_stderr
from tests.pool.releases import PLACES, RELEASES, VM, Place, chosen, chosen_machine

SOURCE_ROOT = Path(__file__).resolve().parents[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of the pool once for each place; which of them run is decided below."""
    if "pool" in metafunc.fixturenames:
        names = [place.name for place in PLACES]
        metafunc.parametrize("pool", PLACES, ids=names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for the place; that is no skip, nothing is missing here."""
    left_out = [item for item in items if not _fits(item)]
    items[:] = [item for item in items if _fits(item)]
    items.sort(key=_order)
    config.hook.pytest_deselected(items=left_out)


def _order(item: pytest.Item) -> tuple[int, bool]:
    place = _place(item)
    return PLACES.index(place) if place else -1, item.get_closest_marker("quiet") is not None


def _place(item: pytest.Item) -> Place | None:
    callspec = getattr(item, "callspec", None)
    place = callspec.params.get("pool") if callspec else None
    return place if isinstance(place, Place) else None


def _fits(item: pytest.Item) -> bool:
    place = _place(item)
    if place is None:
        return True
    if any(place.release.htcondor < marker.args for marker in item.iter_markers("since_htcondor")):
        return False
    return _is_of_release(item, place) and _is_on_machine(item, place)


def _is_of_release(item: pytest.Item, place: Place) -> bool:
    only = chosen()
    if only is not None:
        return place.release == only
    return place.release == RELEASES[0] or item.get_closest_marker("both_pools") is not None


def _is_on_machine(item: pytest.Item, place: Place) -> bool:
    only = chosen_machine()
    if only is not None:
        return place.machine == only
    marker = item.get_closest_marker("machine")
    named = marker.args if marker is not None and place.release == RELEASES[0] else (VM,)
    return place.machine in named


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Pool]:
    """A running pool; the first time ever, its image is built, which takes minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            running = Pool.start(on_stderr(), place=request.param)
    except PoolError as error:
        pytest.fail(f"no test pool: {error}", pytrace=False)
    with running:
        yield running


@pytest.fixture(scope="session")
def _package(pool: Pool) -> None:
    """condor-ledge, installed once a session from this source tree."""
    pool.install(SOURCE_ROOT)


@pytest.fixture
def alone_pool(pool: Pool, _installed: None) -> Iterator[Pool]:
    """The pool with condor-ledge, but without its daemon."""
    pool.plugin_on(daemon=False)
    yield pool
    pool.plugin_on()


@pytest.fixture(scope="module")
def _installed(pool: Pool, _package: None) -> None:
    """condor-ledge, installed and switched on, whatever the module before left behind."""
    pool.plugin_on()


@pytest.fixture
def ledge_pool(pool: Pool, _installed: None) -> Pool:
    """The pool with condor-ledge."""
    return pool


@pytest.fixture(scope="module")
def plain_pool(pool: Pool) -> Pool:
    """The pool as it is without condor-ledge."""
    pool.plugin_off()
    return pool
