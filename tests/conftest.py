"""Puts this folder on the import path, so that tests import `reference` and other shared helpers by name; `--no-skips`."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

MAY_SKIP = "needs ../shared/data"
skipped = []


def pytest_addoption(parser):
    """The environments of the Makefile have everything, so a test that skips there is a hole."""
    parser.addoption("--no-skips", action="store_true", help=f"fail when a test skips, unless its reason is {MAY_SKIP!r}")


def pytest_runtest_logreport(report):
    note(report)


def pytest_collectreport(report):
    note(report)


def note(report):
    """Keep what skipped, and why."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        if MAY_SKIP not in reason:
            skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session):
    if session.config.getoption("--no-skips") and skipped and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--no-skips") and skipped:
        terminalreporter.section("skipped, and nothing may skip here")
        for line in skipped:
            terminalreporter.write_line(line)
