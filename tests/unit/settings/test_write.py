"""Writers of variables: from_env reads their output as the same settings."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Route, Settings

from .helpers import PLAIN, WHSEC

NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=10)
SEVERITIES = NAMES.filter(lambda name: name.casefold() not in ("critical", "warning"))
WHOLE_MINUTES = st.integers(1, 525_600).map(lambda minutes: timedelta(minutes=minutes))
ROUTES = st.builds(
    Route,
    severity=st.none() | NAMES,
    min_level=st.integers(0, 100),
    labels=st.dictionaries(NAMES, NAMES, max_size=2),
    targets=st.lists(st.just("log"), min_size=1, max_size=1),
)
ANY_SETTINGS: st.SearchStrategy[Settings] = st.builds(
    Settings,
    worker_enabled=st.booleans(),
    v1=st.booleans(),
    dry_run=st.booleans(),
    max_level=st.none() | st.integers(1, 100),
    critical_window=WHOLE_MINUTES,
    warning_window=WHOLE_MINUTES,
    windows=st.dictionaries(SEVERITIES.map(str.casefold), WHOLE_MINUTES, max_size=3),
    snooze=WHOLE_MINUTES | st.just(timedelta()),
    tick_interval=st.integers(1000, 600_000).map(lambda number: timedelta(milliseconds=number)),
    canary_pct=st.integers(0, 100),
    pause_cron=st.none() | st.just("0 22 1 * *"),
    pause_length=st.integers(1, 10_080).map(lambda minutes: timedelta(minutes=minutes)),
    tz=st.sampled_from(["UTC", "Europe/Berlin"]),
    database_url=st.none() | st.just("sqlite:///x.db"),
    targets=st.dictionaries(NAMES, NAMES.map(lambda name: f"https://h/{name}"), max_size=2),
    routes=st.lists(ROUTES, max_size=2).map(tuple),
    policies_file=st.none() | st.just("/etc/escalation/policies.yaml"),
    default_target=st.none() | st.just("log"),
    allow_http=st.booleans(),
    plugins=st.sampled_from([(), ("pager:make",), ("a.b:make", "a.b:Other.make")]),
    ops_hmac_secret=st.none() | st.sampled_from([PLAIN, WHSEC]),
    ops_hmac_secret_previous=st.none() | st.sampled_from([PLAIN, WHSEC]),
    ops_admin_role=NAMES,
    ops_read_role=NAMES,
)


@given(ANY_SETTINGS)
def test_variables_lead_back_to_the_same_settings(settings: Settings) -> None:
    """from_env reads the output of as_variables as the same settings."""
    variables = {name: text for name, text in settings.as_variables().items() if text is not None}
    assert settings == Settings.from_env(variables)
