"""Fixtures: a pool for the whole session, without and with condor-ledge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.condor import Pool
from tests.pool.errors import PoolError
from tests.pool.progress import on_stderr

SOURCE_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pool(pytestconfig: pytest.Config) -> Iterator[Pool]:
    """A running pool; the first time ever, its image is built, which takes minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            running = Pool.start(on_stderr())
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
