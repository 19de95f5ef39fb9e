-- Record the highest id of the escalations that another program recorded here before the engine's first page. They have no
-- pages, so `escalation prove` must distinguish them from escalations that lost their pages.
INSERT INTO {schema}.escalation_meta (name, value)
SELECT 'adopted', to_jsonb(coalesce(max(e.id), 0)) FROM {schema}.escalation_events e
WHERE e.created_at < coalesce((SELECT min(p.created_at) FROM {schema}.escalation_pages p), 'infinity')
ON CONFLICT (name) DO NOTHING;
