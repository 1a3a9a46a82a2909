"""A load is turned into streams, and another run can take the same ones."""

from live_runs import Live, check_record

from edgert.results.record import Run


def test_a_load_makes_streams_that_cost_that_much_and_another_run_may_have_the_same(bundle, tmp_path):
    with Live(bundle, tmp_path / "a.db", "--load", "1.5", "--duration", "1s", policy="monolithic") as live:
        assert live.finish() == 0, live.err
    check_record(live.record)
    with Run(tmp_path / "a.db") as run:
        meta = run.meta
        first = {(row["stream"], row["frame"]): (row["item"], row["label"]) for row in run.frames}
    rate = sum(1e9 / stream["period_ns"] for stream in meta["streams"])
    cost_ns = sum(times["mean_ns"] for name, times in meta["measured"].items() if name != "mandatory")
    assert abs(rate * cost_ns / 1e9 - 1.5) < 1e-3
    assert all(1e9 / stream["period_ns"] <= 60.0001 for stream in meta["streams"])
    assert len(meta["streams"]) == 1 or rate > 60 * (len(meta["streams"]) - 1)  # no more streams than needed
    with Live(bundle, tmp_path / "b.db", "--like", str(tmp_path / "a.db"), "--duration", "1s", policy="threshold", source=False) as live:
        assert live.finish() == 0, live.err
    check_record(live.record)
    with Run(tmp_path / "b.db") as run:
        assert [(s["name"], s["period_ns"], s["offset_ns"]) for s in run.meta["streams"]] == \
            [(s["name"], s["period_ns"], s["offset_ns"]) for s in meta["streams"]]
        assert {(row["stream"], row["frame"]): (row["item"], row["label"]) for row in run.frames} == first
