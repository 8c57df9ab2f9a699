"""The topology: the only file that names topics, tables and agents. Names here are durable state.

RISK_SOURCE_TOPIC                        N partitions, keyed by log id
   | agent repartition                   decode, read in time order, route by student
   v
<app>-visits                             N partitions, keyed by student; a record is a frame
   | agent process                       sessionize, rollup, score: one transaction a flush
   |                                     table students: N partitions
   |--> MOODLE_LOGS_SESSIONS_PER_15MINS  1 partition
   |--> MOODLE_LOGS_PREDICTION_AGG       1 partition, compacted
   `--> MOODLE_LOGS_PREDICTION           1 partition
          | agent alert                  prediction > 0.7
          |                              table alerts: 1 partition
          v
        MOODLE_LOGS_PREDICTION_IN_RISK   1 partition

<app>-dead-letters                       records that could not be used, 1 partition
"""

from __future__ import annotations

from agents.process import Pipeline
from app.faust_app import RiskApp
from app.kafka.log import KafkaLog
from app.ops.web import add_pages
from app.settings import Settings
from app.state.partition import OwnedPartitions
from app.topic_names import TopicNames

#: whoever is told of a student at risk does not mind a tenth of a second; the way to the prediction has no pause [s]
ALERT_PAUSE_S = 0.1


def build(settings: Settings) -> RiskApp:
    """Declare the app. Touches neither network nor disk."""
    names = TopicNames.of(settings)
    app = RiskApp(settings)
    students, alerts = app.table_of("students"), app.table_of("alerts")
    pipeline: Pipeline
    owned_students = OwnedPartitions(students, settings.brokers, settings.app_id, lambda: pipeline.sources)
    owned_alerts = OwnedPartitions(alerts, settings.brokers, f"{settings.app_id}-alerts", lambda: 1)
    students.on_owned, alerts.on_owned = owned_students.renew, owned_alerts.renew
    app.kafka = KafkaLog(settings.brokers, names.visits, names.dead_letters, owned_students, owned_alerts)
    pipeline = app.pipeline = Pipeline(settings, names, app.kafka, alert_pause_s=ALERT_PAUSE_S)
    app.bind("repartition", names.source, pipeline.run_repartition)
    app.bind("process", names.visits, pipeline.run_process, actor_per_partition=True)
    app.bind("alert", names.prediction, pipeline.run_alert)
    add_pages(app)
    return app
