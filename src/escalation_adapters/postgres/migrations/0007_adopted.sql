-- Escalations that another program recorded here before the engine's first page have no pages and never will: up to which
-- id they go, so that the proof tells them from escalations that lost theirs.
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'adopted', to_jsonb(coalesce(max(e.id), 0)) FROM {schema}.escalation_events e
WHERE e.created_at < coalesce((SELECT min(p.created_at) FROM {schema}.escalation_pages p), 'infinity')
ON CONFLICT (name) DO NOTHING;
