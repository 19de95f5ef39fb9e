-- Replace the update trigger's function: it also records a change of severity and a snooze in the audit. An installation
-- without triggers has no such function, and does not get it. The function compares severity and snooze first, because a
-- reopening clears the snooze, and that is not the host's change.
DO $do$
BEGIN
    IF to_regprocedure('{schema}.escalation_host_update()') IS NULL THEN
        RETURN;
    END IF;
    CREATE OR REPLACE FUNCTION {schema}.escalation_host_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    DECLARE
        other_severity boolean := NEW.{severity} IS DISTINCT FROM OLD.{severity};
        other_snooze boolean := NEW.{snoozed_until} IS DISTINCT FROM OLD.{snoozed_until};
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
        INSERT INTO {schema}.escalation_audit (at, action, incident_key, episode, level, actor, reason)
        SELECT now(), done.action, NEW.{incident_key}::text, NEW.{episode}, NEW.{level},
            CASE done.action WHEN 'acknowledge' THEN NEW.{acknowledged_by}::text END,
            'by SQL, as ' || session_user || coalesce(': ' || done.what, '')
        FROM (VALUES
            (CASE
                WHEN OLD.{resolved_at} IS NULL AND NEW.{resolved_at} IS NOT NULL THEN 'resolve'
                WHEN OLD.{resolved_at} IS NOT NULL AND NEW.{resolved_at} IS NULL THEN 'open'
                WHEN OLD.{acknowledged_at} IS NULL AND NEW.{acknowledged_at} IS NOT NULL THEN 'acknowledge'
                WHEN OLD.{acknowledged_at} IS NOT NULL AND NEW.{acknowledged_at} IS NULL THEN 'unacknowledge'
                WHEN NEW.{level} < OLD.{level} THEN 'drain'
            END, NULL),
            (CASE WHEN other_severity THEN 'change_severity' END, coalesce(NEW.{severity}::text, 'none')),
            (CASE WHEN other_snooze THEN 'snooze' END, CASE
                WHEN NEW.{snoozed_until} IS NULL THEN 'ended'
                WHEN NOT isfinite(NEW.{snoozed_until}) THEN 'until ' || NEW.{snoozed_until}
                -- The form in which Python writes an instant: a fraction of six digits, or no fraction.
                ELSE 'until ' || regexp_replace(
                    to_char(NEW.{snoozed_until} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.0+$', '') || '+00:00'
            END)
        ) AS done (action, what)
        WHERE done.action IS NOT NULL;
        RETURN NEW;
    END
    $body$;
END
$do$;
