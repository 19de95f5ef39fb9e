-- The triggers that react to what a host writes with its own SQL, and the functions that they run. `attach` creates them, and
-- `migrate up` creates them again if they are missing, disabled or changed.

-- Whether the columns of the mapping are there, and the words of the status, once for each statement. If a host renames one, its
-- writes succeed, and workers find the rows later.
CREATE OR REPLACE FUNCTION {schema}.escalation_host_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF (SELECT count(*) FROM pg_attribute a
        WHERE a.attrelid = TG_RELID AND a.attname = ANY ({column_names}::name[]) AND NOT a.attisdropped) = {column_count}
        {status_fits}
    THEN
        PERFORM set_config({fits}, 'on', true);
    ELSE
        PERFORM set_config({fits}, 'off', true);
        RAISE WARNING 'escalation: % has lost a column or a status word that is mapped, so this write is found late', TG_RELID::regclass
            USING HINT = 'run: escalation migrate status';
    END IF;
    RETURN NULL;
END
$body$;

-- The functions read and write the engine's tables with the rights of their owner: the host's role needs no rights there.
CREATE OR REPLACE FUNCTION {schema}.escalation_host_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    first_instant CONSTANT timestamptz := '0001-01-01 00:00:00+00';
    last_instant CONSTANT timestamptz := '9999-12-31 23:59:59.999999+00';
BEGIN
    -- The walk of an incident is the engine's: a new incident has none, whatever the host writes.
    IF num_nonnulls(NEW.{policy_pin}, NEW.{policy_level}, NEW.{policy_since}) > 0 THEN
        NEW.{policy_pin} := NULL;
        NEW.{policy_level} := NULL;
        NEW.{policy_since} := NULL;
    END IF;
    IF NEW.{next_due_at} IS NOT NULL THEN
        RETURN NEW;
    END IF;
    {read_on_insert}{status_on_insert}
    NEW.{episode} := 1 + coalesce(
        (SELECT max(e.episode) FROM {schema}.escalation_events e WHERE e.incident_key = NEW.{incident_key}::text COLLATE "default"), 0);
    -- A value outside the years 1 to 9999, for example infinity, does not end the incident: a worker finds the row
    -- unreadable, and health lists it. An acknowledged row is planned, too: its policy may end the acknowledgement.
    NEW.{next_due_at} := CASE
        WHEN coalesce(NEW.{resolved_at} > first_instant AND NEW.{resolved_at} < last_instant, false)
        THEN NULL ELSE to_timestamp(0) END;
    RETURN NEW;
END
$body$;

CREATE OR REPLACE FUNCTION {schema}.escalation_host_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    other_key boolean := NEW.{incident_key} IS DISTINCT FROM OLD.{incident_key};
    other_severity boolean := NEW.{severity} IS DISTINCT FROM OLD.{severity};
    other_snooze boolean := NEW.{snoozed_until} IS DISTINCT FROM OLD.{snoozed_until};
    other_policy boolean := NEW.{policy} IS DISTINCT FROM OLD.{policy};
    -- A value outside the years 1 to 9999, for example infinity, is not a valid instant, and does not end the incident.
    first_instant CONSTANT timestamptz := '0001-01-01 00:00:00+00';
    last_instant CONSTANT timestamptz := '9999-12-31 23:59:59.999999+00';
    was_acknowledged boolean := coalesce(OLD.{acknowledged_at} > first_instant AND OLD.{acknowledged_at} < last_instant, false);
    was_resolved boolean := coalesce(OLD.{resolved_at} > first_instant AND OLD.{resolved_at} < last_instant, false);
    is_acknowledged boolean;
    is_resolved boolean;
    reopened boolean;
    ended text;
BEGIN
    -- The walk of an incident is the engine's: take back what the host writes there. An assignment makes PostgreSQL form the row
    -- again, which costs more than the comparison.
    IF NEW.{policy_pin} IS DISTINCT FROM OLD.{policy_pin} OR NEW.{policy_level} IS DISTINCT FROM OLD.{policy_level}
        OR NEW.{policy_since} IS DISTINCT FROM OLD.{policy_since}
    THEN
        NEW.{policy_pin} := OLD.{policy_pin};
        NEW.{policy_level} := OLD.{policy_level};
        NEW.{policy_since} := OLD.{policy_since};
    END IF;
    {status_on_update}-- Most updates of a host concern other columns.
    IF NOT other_key AND NOT other_severity AND NOT other_snooze AND NOT other_policy
        AND NEW.{level} IS NOT DISTINCT FROM OLD.{level}
        AND NEW.{first_seen} IS NOT DISTINCT FROM OLD.{first_seen}
        AND NEW.{last_escalated_at} IS NOT DISTINCT FROM OLD.{last_escalated_at}
        AND NEW.{acknowledged_at} IS NOT DISTINCT FROM OLD.{acknowledged_at}
        AND NEW.{resolved_at} IS NOT DISTINCT FROM OLD.{resolved_at}
    THEN
        RETURN NEW;
    END IF;
    is_acknowledged := coalesce(NEW.{acknowledged_at} > first_instant AND NEW.{acknowledged_at} < last_instant, false);
    is_resolved := coalesce(NEW.{resolved_at} > first_instant AND NEW.{resolved_at} < last_instant, false);
    ended := CASE
        WHEN other_key THEN 'key changed'
        WHEN is_resolved AND NOT was_resolved THEN 'resolved'
        WHEN is_acknowledged AND NOT was_acknowledged THEN 'acknowledged'
        WHEN was_acknowledged AND NOT is_acknowledged AND NOT was_resolved AND NOT is_resolved THEN 'unacknowledged'
        -- A host that also writes next_due_at has written an old copy of the row: the ledger has the level, and it wins.
        WHEN NEW.{level} < OLD.{level} AND NEW.{next_due_at} IS NOT DISTINCT FROM OLD.{next_due_at} THEN 'drained' END;
    IF ended = 'unacknowledged' AND OLD.{policy_pin} IS NOT NULL THEN
        -- The planner removes this prefix: an acknowledgement that ends may begin a walk again.
        NEW.{policy_pin} := '!' || CASE WHEN OLD.{policy_pin} LIKE '!%' THEN substr(OLD.{policy_pin}, 2) ELSE OLD.{policy_pin} END;
    END IF;
    IF ended IS NOT NULL THEN
        UPDATE {schema}.escalation_pages p SET
            state = CASE p.state WHEN 'pending' THEN 'cancelled' ELSE 'cancelling' END,
            due_at = CASE p.state WHEN 'pending' THEN now() ELSE p.due_at END,
            reason = ended
        WHERE p.incident_key = OLD.{incident_key}::text COLLATE "default" AND p.state IN ('pending', 'leased');
    END IF;
    -- A worker makes notices of it, for those who were paged.
    IF ended = 'resolved' OR ended = 'acknowledged' AND NOT is_resolved AND NOT was_resolved THEN
        INSERT INTO {schema}.escalation_changes (kind, incident_key, episode, at, actor, first_seen)
        SELECT ended, OLD.{incident_key}::text, coalesce(OLD.{episode}::int, 1), now(),
            CASE ended WHEN 'acknowledged' THEN NEW.{acknowledged_by}::text END,
            CASE WHEN OLD.{first_seen} > first_instant AND OLD.{first_seen} < last_instant THEN OLD.{first_seen} END
        WHERE EXISTS (
            SELECT FROM {schema}.escalation_pages p WHERE p.incident_key = OLD.{incident_key}::text COLLATE "default");
    END IF;
    -- A host that writes every column at once also writes next_due_at: then only the pages are cancelled, above.
    IF NOT other_key AND NEW.{next_due_at} IS DISTINCT FROM OLD.{next_due_at} THEN
        RETURN NEW;
    END IF;
    IF other_key THEN
        NEW.{episode} := 1 + coalesce((
            SELECT max(e.episode) FROM {schema}.escalation_events e
            WHERE e.incident_key = NEW.{incident_key}::text COLLATE "default"), 0);
        NEW.{level} := 0;
        NEW.{last_escalated_at} := NULL;
    ELSIF NEW.{episode} IS NOT DISTINCT FROM OLD.{episode} THEN
        IF was_resolved AND NOT is_resolved THEN
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
                is_acknowledged := false;
            END IF;
        ELSIF NEW.{level} < OLD.{level} THEN
            NEW.{episode} := OLD.{episode} + 1;
        END IF;
    END IF;
    reopened := was_resolved AND NOT is_resolved;
    IF (other_key OR reopened) AND num_nonnulls(NEW.{policy_pin}, NEW.{policy_level}, NEW.{policy_since}) > 0 THEN
        NEW.{policy_pin} := NULL;
        NEW.{policy_level} := NULL;
        NEW.{policy_since} := NULL;
    ELSIF NEW.{level} < OLD.{level} AND NEW.{policy_level} IS NOT NULL THEN
        NEW.{policy_level} := greatest(0, least(NEW.{policy_level}, NEW.{level}));
    END IF;
    IF was_acknowledged AND NOT is_acknowledged AND NEW.{acknowledged_by} IS NOT DISTINCT FROM OLD.{acknowledged_by} THEN
        NEW.{acknowledged_by} := NULL;
    END IF;
    -- A worker finds a row that cannot be read, and health lists it.
    NEW.{next_due_at} := CASE
        WHEN is_resolved THEN NULL
        WHEN NOT is_acknowledged THEN to_timestamp(0)
        -- The policy of an acknowledged row may end the acknowledgement. A planner that never pinned the row decides that.
        WHEN other_key OR reopened OR NEW.{policy_pin} IS NOT NULL OR OLD.{next_due_at} = to_timestamp(0)
        THEN to_timestamp(0) END;
    INSERT INTO {schema}.escalation_audit (at, action, incident_key, episode, level, actor, reason)
    SELECT now(), done.action, done.key, done.episode, done.level,
        CASE done.action WHEN 'acknowledge' THEN NEW.{acknowledged_by}::text END,
        'by SQL, as ' || session_user || coalesce(': ' || done.what, '')
    FROM (VALUES
        (CASE WHEN other_key THEN 'change_key' END, 'now ' || NEW.{incident_key}::text,
            OLD.{incident_key}::text, OLD.{episode}::int, OLD.{level}::int),
        (CASE WHEN other_key THEN 'change_key' END, 'was ' || OLD.{incident_key}::text,
            NEW.{incident_key}::text, NEW.{episode}::int, NEW.{level}::int),
        (CASE
            WHEN is_resolved AND NOT was_resolved THEN 'resolve'
            WHEN was_resolved AND NOT is_resolved THEN 'open'
            WHEN is_acknowledged AND NOT was_acknowledged THEN 'acknowledge'
            WHEN was_acknowledged AND NOT is_acknowledged THEN 'unacknowledge'
            WHEN NEW.{level} < OLD.{level} AND NOT other_key THEN 'drain'
        END, NULL, NEW.{incident_key}::text, NEW.{episode}::int, NEW.{level}::int),
        (CASE WHEN other_severity THEN 'change_severity' END, coalesce(NEW.{severity}::text, 'none'),
            NEW.{incident_key}::text, NEW.{episode}::int, NEW.{level}::int),
        (CASE WHEN other_policy THEN 'change_policy' END, coalesce(left(NEW.{policy}::text, 1000), 'none'),
            NEW.{incident_key}::text, NEW.{episode}::int, NEW.{level}::int),
        (CASE WHEN other_snooze THEN 'snooze' END, CASE
            WHEN NEW.{snoozed_until} IS NULL THEN 'ended'
            WHEN NOT isfinite(NEW.{snoozed_until}) THEN 'until ' || NEW.{snoozed_until}
            -- The form in which Python writes an instant: a fraction of six digits, or no fraction.
            ELSE 'until ' || regexp_replace(
                to_char(NEW.{snoozed_until} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.0+$', '') || '+00:00'
        END, NEW.{incident_key}::text, NEW.{episode}::int, NEW.{level}::int)
    ) AS done (action, what, key, episode, level)
    WHERE done.action IS NOT NULL;
    RETURN NEW;
END
$body$;

-- Triggers of one kind run in the order of their names: these must see the row as the host's own triggers left it. They name no
-- column, so that a host can change the type of any column. The engine's own transactions set escalation.engine (begin, in
-- queries.sql), and run no trigger: its verbs cancel pages themselves.
CREATE OR REPLACE TRIGGER zz_escalation_host_check BEFORE INSERT OR UPDATE ON {incidents} FOR EACH STATEMENT
    WHEN (current_setting('escalation.engine', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.escalation_host_check();
CREATE OR REPLACE TRIGGER zz_escalation_host_insert BEFORE INSERT ON {incidents} FOR EACH ROW
    WHEN (current_setting('escalation.engine', true) IS DISTINCT FROM 'on' AND current_setting({fits}, true) = 'on')
    EXECUTE FUNCTION {schema}.escalation_host_insert();
CREATE OR REPLACE TRIGGER zz_escalation_host_update BEFORE UPDATE ON {incidents} FOR EACH ROW
    WHEN (current_setting('escalation.engine', true) IS DISTINCT FROM 'on' AND current_setting({fits}, true) = 'on')
    EXECUTE FUNCTION {schema}.escalation_host_update();
