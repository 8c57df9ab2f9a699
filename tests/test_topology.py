"""Names of agents, tables and topics are durable: renaming one loses state or offsets of a running deployment."""

from __future__ import annotations

from app.kafka.topics import of_page, wanted
from app.settings import Settings
from app.topology import declare

SETTINGS = Settings(app_id="site", topic_prefix="new.", store="memory://")


def test_names_of_agents_and_tables():
    """The names of agents, tables and changelogs."""
    app = declare(SETTINGS)
    assert sorted(a.name for a in app.agents.values()) == ["alert", "process", "repartition"]
    assert sorted(app.tables) == ["alerts", "students"]
    assert app.tables.changelog_topics == {"site-students-changelog", "site-alerts-changelog"}
    topics = {name for agent in app.agents.values() for name in agent.get_topic_names()}
    assert topics == {"demo.demo.mdl_logstore_standard_log", "site-visits", "new.MOODLE_LOGS_PREDICTION"}


def test_declared_topics():
    """Partitions, cleanup policy and retention of every topic that the app declares for four source partitions."""
    declared = {t.name: (t.partitions, t.configs.get("cleanup.policy"), t.configs.get("retention.ms")) for t in
                wanted(SETTINGS.topic_names, 4)}  # fmt: skip
    assert declared == {
        "site-visits": (4, "delete", "2592000000"),
        "site-students-changelog": (4, "compact", None),
        "site-alerts-changelog": (1, "compact", None),
        "new.MOODLE_LOGS_SESSIONS_PER_15MINS": (1, "delete", "-1"),
        "new.MOODLE_LOGS_PREDICTION_AGG": (1, "compact", None),
        "new.MOODLE_LOGS_PREDICTION": (1, "delete", "-1"),
        "new.MOODLE_LOGS_PREDICTION_IN_RISK": (1, "delete", "-1"),
        "site-dead-letters": (1, "delete", "-1"),
        "new.MOODLE_RISK": (1, "compact", None),
        "new.MOODLE_RISK_ALERTS": (1, "delete", "-1"),
        "site-risk-cohorts": (1, "compact", None),
    }


def test_topics_of_the_page():
    """Partitions, cleanup policy and retention of the topics that the page declares."""
    declared = {t.name: (t.partitions, t.configs.get("cleanup.policy"), t.configs.get("retention.ms")) for t in
                of_page(SETTINGS.topic_names, 30)}  # fmt: skip
    assert declared == {"site-cases": (1, "compact", None), "site-page-audit": (1, "delete", "2592000000")}


def test_web_server_binds_to_localhost_and_disables_fausts_pages():
    """Safe by default."""
    conf = declare(SETTINGS).conf
    assert conf.web_bind == "127.0.0.1"
    pages = ("tables", "router", "graph", "stats", "metrics")
    assert [name for name in pages if getattr(conf, f"web_{name}_enabled")] == []


def test_a_worker_that_waits_stays_in_its_group():
    """It stays however long the registry is down: a worker that leaves the group with full queues never rejoins."""
    conf = declare(Settings()).conf
    assert conf.broker_max_poll_interval > 20 * 86_400
    assert conf.broker_max_poll_interval * 1000 < 2**31
