"""One tiny bundle for all fault tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("ai_edge_litert", reason="the tiny bundle's stages are written with ai_edge_litert")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Directory of the tiny bundle."""
    from live_runs import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
