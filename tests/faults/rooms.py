"""Where ``points`` looks, and what the names that it meets stand for."""

ROOTS = (
    ("escalation_core.engine.engine", "Engine.tick"),
    ("escalation_core.engine.engine", "Engine.deliver"),
    ("escalation_core.engine.operators", "OperatorVerbs.recalc"),
    ("escalation_adapters.postgres.migrate", "up"),
    ("escalation_adapters.worker.runner", "run"),
)
CORE = (
    "access", "attempt", "batch", "deliver", "engine", "exhausted", "heartbeat", "incidents", "operators", "recalc",
    "refused_rows", "settle", "tasks", "tick", "views",
)  # fmt: skip
POSTGRES = (
    "attach", "errors", "incidents", "installation", "journal", "ledger", "migrate", "operations", "outbox", "pool",
    "session", "store", "timeouts",
)  # fmt: skip
ROOMS = (
    *(f"escalation_core.engine.{name}" for name in CORE),
    *(f"escalation_adapters.postgres.{name}" for name in POSTGRES),
    "escalation_adapters.worker.heartbeat",
    "escalation_adapters.worker.runner",
    "escalation_adapters.channels.slack",
)
ELSEWHERE = {
    "escalation_core.engine.audit": "operators alone read the audit",
    "escalation_core.engine.retry_dead": "operators alone queue dead pages again",
    "escalation_core.engine.prune": "operators alone prune",
    "escalation_core.engine.telemetry": "its await stands in a docstring's example or a comment, if anywhere",
    "escalation_adapters.postgres.host": "the host's writes of tests",
    "escalation_adapters.postgres.limiter": "the operators' endpoints alone are limited",
    "escalation_adapters.postgres.scratch": "replays alone have a schema of their own",
}
"""Modules with an await that no work of a worker reaches."""
RECEIVERS = {
    "_batches": "BatchRunner",
    "_switch_calls": "TaskGroup",
    "_heartbeat_keeper": "HeartbeatKeeper",
    "_delivering": "SingleFlight",
    "_finishing": "BackgroundTask",
    "_dead_mans_switch": "HttpHeartbeat",
    "_pool": "Pool",
    "_recalc": "escalation_core.engine.recalc",
    "_session": "Session",
    "_ticker": "Ticker",
    "_ticking": "SingleFlight",
    "attempt": "Attempt",
    "_delivery": "Delivery",
    "delivery": "Delivery",
    "engine": "Engine",
    "tasks": "TaskGroup",
    "incidents": "Incidents",
    "journal": "Journal",
    "ledger": "Ledger",
    "notifier": "SlackNotifier",
    "operations": "Operations",
    "outbox": "Outbox",
    "pool": "Pool",
    "recalc": "escalation_core.engine.recalc",
    "session": "Session",
    "timeouts": "escalation_adapters.postgres.timeouts",
    "store": "PostgresStore",
    "tx": "_Transaction",
}
"""What stands behind the last part of an attribute's path: a class of the rooms, or a module."""
FOREIGN = {
    "AsyncConnectionPool", "_connections", "_tasks", "asyncio", "attrs", "back", "connection", "cursor", "loop",
    "policy", "process", "psycopg", "settings", "span", "sql", "store_module", "stop", "task", "telemetry",
    "_telemetry", "_coming_back", "_woken", "closing", "own", "log", "leave", "last", "here", "content",
    "response", "report", "sources", "selector", "router", "lines", "seen", "migration", "AsyncConnection", "batch",
    "datetime", "_guard", "_loop_guard", "first", "_task", "pgconn", "timer", "conflict", "unavailable", "again",
    "refusal", "walked", "done", "started",
}  # fmt: skip
"""Receivers that are not ours."""
SELDOM = {
    "write_apart", "BatchRunner._write_apart", "defer_or_pass_over", "Incidents.pass_over",
    "Incidents.unseen", "Incidents.mark_unseen", "HeartbeatKeeper.find_unseen", "HeartbeatKeeper._mark_unseen",
    "HeartbeatKeeper._mend", "mend", "Incidents.save", "Operations.shift_pauses", "Outbox.bring_forward",
    "Outbox.fences", "_check_visible", "_hidden", "_keep_held", "faults",
}  # fmt: skip
"""Functions that work when the tables beneath, or the clock, were upset. Quick runs take turns at their awaits."""
HOSTS = {
    "Engine": ("health", "retry_dead"),
    "Incidents": ("insert", "left_alone", "load"),
    "Journal": ("notes",),
    "Ledger": ("escalations", "highest_episode", "recent"),
    "Operations": ("add_pause", "delete", "delete_pauses", "end_pauses", "integrity", "old"),
    "OperatorVerbs": ("note", "now", "pause", "prove", "prune", "remember_request", "resume"),
    "Outbox": ("cancel", "pages", "settled"),
    "Pool": ("_track", "open"),
    "PostgresStore": ("connect",),
    "IncidentVerbs": (
        "_change", "acknowledge", "change_severity", "drain", "open", "resolve", "snooze",
        "unacknowledge",
    ),
    "SeenRequests": ("claim_request_id", "delete_expired"),
    "StoreAccess": ("_read", "_run"),
    "Views": ("audit", "dead", "history", "is_healthy"),
    "": ("_load", "_write", "check", "status"),
}  # fmt: skip
"""What hosts and operators call, and what is done before a worker works: functions of the rooms that no root leads to.

Whatever else is not reached was lost on the way.
"""
