"""Settings from any environment."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.hmac_signature import HmacVerifier
from escalation_adapters.channels.by_scheme import make_channels
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import InvalidValue, Settings, SettingsError
from escalation_core.checks import check_text
from escalation_core.settings.fields import FIELDS

from .material import HUSH, near, told

VARIABLES = {field.name: field.variable for field in FIELDS}
URL = f"https://hooks.example:8443/{HUSH}"
VALUES = {
    "ESCALATION_WORKER_ENABLED": near("true", "false"),
    "ESCALATION_V1": near("true", "false"),
    "ESC_DRY_RUN": near("true", "false"),
    "MAX_ESC_LEVEL": near("1", "7", "100", "101"),
    "ESC_CRIT_ACK_MIN": near("1", "525600", "-1", "999999999999999"),
    "ESC_WARN_ACK_MIN": near("15"),
    "ESC_ACK_MIN": near(
        '{"high": 10, "low": 60}', '{"HIGH": 525600}', '{"\\u0000": 1}', '{"\\ud800": 1}', '{"\\u00df": 1, "ss": 2}'
    ),
    "ESC_SNOOZE_MIN": near("0", "30"),
    "ESC_TICK_MS": near("1000", "60000", "600000"),
    "ESC_CANARY_PCT": near("0", "100"),
    "ESC_PAUSE_CRON": near("0 22 * * *", "*/5 0-6 1,15 * mon-fri", "0 0 L * *", "0 0 29 2 1#5"),
    "ESC_PAUSE_MIN": near("1", "60", "10080"),
    "ESC_TZ": near("UTC", "Europe/Berlin", "Australia/Lord_Howe"),
    "ESC_DATABASE_URL": near(f"postgresql://user:{HUSH}@host/name", "sqlite:///file.db"),
    "ESC_TARGETS": near(
        f'{{"slack:ops": "{URL}"}}',
        f'{{"a": "https://[::1]/{HUSH}", "log": "{URL}"}}',
        f'{{"a": "pagerduty://{HUSH[:32]}", "b": "pagerduty+http://{HUSH[:32]}@[::1]:8080"}}',
    ),
    "ESC_POLICIES": near("policies.yaml", "/etc/policies.toml"),
    "ESC_ROUTES": near(
        '[{"severity": "critical", "min_level": 2, "labels": {"team": "db"}, "targets": ["slack:ops"]}]',
        '[{"targets": ["log", "slack:ops"]}, {"labels": {}, "targets": ["log"]}]',
    ),
    "ESC_DEFAULT_TARGET": near("slack:ops", "log"),
    "ESC_HEARTBEAT_URL": near(URL, f"http://h/{HUSH}"),
    "ESC_ALLOW_HTTP": near("true", "false"),
    "ESC_PLUGINS": near("pager.make:notifier", "a:b, c.d:e.f"),
    "OPS_HMAC_SECRET": near(HUSH, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    "OPS_HMAC_SECRET_PREVIOUS": near(HUSH, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    "OPS_ADMIN_ROLE": near("ops_admin"),
    "OPS_READ_ROLE": near("ops_read"),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_settings(variables: dict[str, str]) -> None:
    """Settings survive a round trip and their secrets make a verifier; others are refused by name, without a secret."""
    try:
        settings = Settings.from_env(variables)
    except SettingsError as refusal:
        assert set() < set(refusal.problems) <= set(variables)
        assert all(problem.fault and problem.remedy for problem in refusal.problems.values())
        assert HUSH[:32] not in told(refusal)
        return
    assert HUSH[:32] not in repr(settings)
    again = {name: text for name, text in settings.as_variables().items() if text is not None}
    assert settings == Settings.from_env(again)
    # A recalculation stores the fingerprint in the database.
    check_text(settings.policy.fingerprint(), "fingerprint")
    secrets = [secret for secret in (settings.ops_hmac_secret, settings.ops_hmac_secret_previous) if secret is not None]
    if secrets:
        HmacVerifier(secrets)
    try:
        make_channels(settings.targets, allow_http=settings.allow_http)
        if settings.heartbeat_url is not None:
            HttpHeartbeat(settings.heartbeat_url, allow_http=settings.allow_http)
    except InvalidValue as refusal:
        # Only the notifier checks a URL's host, since the core does not know which hosts are valid.
        assert refusal.field in ("targets", "heartbeat")
        assert HUSH[:32] not in told(refusal)


@given(st.data())
def test_settings_in_code(data: st.DataObject) -> None:
    """Values in code pass the same limits: they give settings, or problems under the variables' names."""
    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=60)
    values = (
        anything | st.timedeltas() | st.lists(anything, max_size=2) | st.dictionaries(anything, anything, max_size=2)
    )
    spans = st.timedeltas(timedelta(0), timedelta(days=400))
    given_ = {field: data.draw(values | spans) for field in data.draw(st.sets(st.sampled_from(list(VARIABLES))))}
    try:
        settings = Settings(**given_)  # type: ignore[arg-type]
    except SettingsError as refusal:
        assert set(refusal.problems) <= set(VARIABLES.values())
        return
    check_text(settings.policy.fingerprint(), "fingerprint")
    secrets = [secret for secret in (settings.ops_hmac_secret, settings.ops_hmac_secret_previous) if secret is not None]
    if secrets:
        HmacVerifier(secrets)
