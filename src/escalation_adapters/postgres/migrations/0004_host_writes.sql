-- Triggers for what a host writes with its own SQL: they set next_due_at to the epoch, so that the next tick plans the row, and
-- keep the episode correct. They do not depend on the policy. The engine's own statements write next_due_at, so the triggers
-- do not run for them.

-- The function reads escalation_events with the rights of its owner: the host's role needs no rights there.
CREATE OR REPLACE FUNCTION {schema}.escalation_host_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    NEW.{episode} := 1 + coalesce(
        (SELECT max(e.episode) FROM {schema}.escalation_events e WHERE e.incident_key = NEW.{incident_key}::text), 0);
    NEW.{next_due_at} := CASE
        WHEN NEW.{acknowledged_at} IS NULL AND NEW.{resolved_at} IS NULL THEN to_timestamp(0) END;
    RETURN NEW;
END
$body$;

-- The function writes escalation_audit with the rights of its owner, for the same reason.
CREATE OR REPLACE FUNCTION {schema}.escalation_host_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    done text;
BEGIN
    IF NEW.{episode} IS NOT DISTINCT FROM OLD.{episode} THEN
        IF OLD.{resolved_at} IS NOT NULL AND NEW.{resolved_at} IS NULL THEN
            NEW.{episode} := OLD.{episode} + 1;
            -- Keep the columns that this statement changed; the other values belong to the episode that has ended.
            IF NEW.{level} IS NOT DISTINCT FROM OLD.{level} THEN
                NEW.{level} := 0;
            END IF;
            IF NEW.{first_seen} IS NOT DISTINCT FROM OLD.{first_seen} THEN
                NEW.{first_seen} := now();
            END IF;
            IF NEW.{last_escalated_at} IS NOT DISTINCT FROM OLD.{last_escalated_at} THEN
                NEW.{last_escalated_at} := NULL;
            END IF;
            IF NEW.{snoozed_until} IS NOT DISTINCT FROM OLD.{snoozed_until} THEN
                NEW.{snoozed_until} := NULL;
            END IF;
            IF NEW.{acknowledged_at} IS NOT DISTINCT FROM OLD.{acknowledged_at} THEN
                NEW.{acknowledged_at} := NULL;
            END IF;
        ELSIF NEW.{level} < OLD.{level} THEN
            NEW.{episode} := OLD.{episode} + 1;
        END IF;
    END IF;
    IF NEW.{acknowledged_at} IS NULL THEN
        NEW.{acknowledged_by} := NULL;
    END IF;
    NEW.{next_due_at} := CASE
        WHEN NEW.{acknowledged_at} IS NULL AND NEW.{resolved_at} IS NULL THEN to_timestamp(0) END;
    done := CASE
        WHEN OLD.{resolved_at} IS NULL AND NEW.{resolved_at} IS NOT NULL THEN 'resolve'
        WHEN OLD.{resolved_at} IS NOT NULL AND NEW.{resolved_at} IS NULL THEN 'open'
        WHEN OLD.{acknowledged_at} IS NULL AND NEW.{acknowledged_at} IS NOT NULL THEN 'acknowledge'
        WHEN OLD.{acknowledged_at} IS NOT NULL AND NEW.{acknowledged_at} IS NULL THEN 'unacknowledge'
        WHEN NEW.{level} < OLD.{level} THEN 'drain'
    END;
    IF done IS NOT NULL THEN
        INSERT INTO {schema}.escalation_audit (at, action, incident_key, episode, level, actor, reason) VALUES (
            now(), done, NEW.{incident_key}::text, NEW.{episode}, NEW.{level},
            CASE done WHEN 'acknowledge' THEN NEW.{acknowledged_by}::text END, 'by SQL, as ' || session_user);
    END IF;
    RETURN NEW;
END
$body$;

DROP TRIGGER IF EXISTS escalation_host_insert ON {incidents};
CREATE TRIGGER escalation_host_insert BEFORE INSERT ON {incidents}
    FOR EACH ROW WHEN (NEW.{next_due_at} IS NULL)
    EXECUTE FUNCTION {schema}.escalation_host_insert();

DROP TRIGGER IF EXISTS escalation_host_update ON {incidents};
CREATE TRIGGER escalation_host_update BEFORE UPDATE ON {incidents}
    FOR EACH ROW WHEN (
        NEW.{next_due_at} IS NOT DISTINCT FROM OLD.{next_due_at}
        AND (
            NEW.{severity} IS DISTINCT FROM OLD.{severity}
            OR NEW.{level} IS DISTINCT FROM OLD.{level}
            OR NEW.{first_seen} IS DISTINCT FROM OLD.{first_seen}
            OR NEW.{last_escalated_at} IS DISTINCT FROM OLD.{last_escalated_at}
            OR NEW.{acknowledged_at} IS DISTINCT FROM OLD.{acknowledged_at}
            OR NEW.{resolved_at} IS DISTINCT FROM OLD.{resolved_at}
            OR NEW.{snoozed_until} IS DISTINCT FROM OLD.{snoozed_until}
        )
    )
    EXECUTE FUNCTION {schema}.escalation_host_update();
