-- Times are milliseconds since the epoch, money is nano-dollars, flags are 0 or 1, lists and maps are JSON text:
-- types that every engine has. What stands in braces is replaced by the engine's own growing key, or its bytes.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('revision', '0');

-- What changed, for replicas that keep it in memory. The revision is given out under the lock of meta's row, so
-- that who has read up to one has missed none before it.
CREATE TABLE changes (
    revision BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    item TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- `balance` is what is neither spent nor leased to a replica.
CREATE TABLE groups (
    id {id},
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    external_id TEXT,
    unlimited BIGINT NOT NULL DEFAULT 0,
    balance BIGINT NOT NULL DEFAULT 0,
    credited BIGINT NOT NULL DEFAULT 0,
    spent BIGINT NOT NULL DEFAULT 0,
    alerted BIGINT NOT NULL DEFAULT 0,
    limits TEXT,
    metadata TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE keys (
    id {id},
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    group_id BIGINT REFERENCES groups (id),
    role TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    previous_hash TEXT,
    previous_until BIGINT,
    enabled BIGINT NOT NULL DEFAULT 1,
    single_use BIGINT NOT NULL DEFAULT 0,
    expires_at BIGINT,
    rotate_every BIGINT,
    rotated_at BIGINT NOT NULL,
    user_id TEXT,
    allowed_models TEXT,
    limits TEXT,
    tags TEXT,
    metadata TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX keys_by_group ON keys (group_id);

CREATE TABLE transactions (
    id {id},
    group_id BIGINT NOT NULL REFERENCES groups (id),
    kind TEXT NOT NULL,
    amount BIGINT NOT NULL,
    balance_after BIGINT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    actor TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX transactions_by_group ON transactions (group_id, id);

-- A running process. It says every second that it is alive.
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    journal TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL
);

-- What a replica may spend of a group without asking. `reclaim` is when another asked for it back.
CREATE TABLE leases (
    replica TEXT NOT NULL,
    group_id BIGINT NOT NULL REFERENCES groups (id),
    amount BIGINT NOT NULL,
    reclaim BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (replica, group_id)
);
CREATE INDEX leases_by_group ON leases (group_id);

-- How far each journal has been applied.
CREATE TABLE journals (
    replica TEXT NOT NULL,
    name TEXT NOT NULL,
    applied BIGINT NOT NULL,
    PRIMARY KEY (replica, name)
);

-- Calls under way, where the journal is in the Store.
CREATE TABLE reservations (
    replica TEXT NOT NULL,
    call BIGINT NOT NULL,
    group_id BIGINT,
    amount BIGINT NOT NULL,
    record {bytes} NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (replica, call)
);

-- Single calls, many in a row: `body` holds them, as bytes. `calls` is how many are left of them.
CREATE TABLE usage_pages (
    id {id},
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    body {bytes} NOT NULL
);
CREATE INDEX usage_pages_by_time ON usage_pages (last_at);

-- Which keys (kind 1) and groups (kind 2) a page is about.
CREATE TABLE usage_subjects (
    kind BIGINT NOT NULL,
    subject BIGINT NOT NULL,
    page BIGINT NOT NULL REFERENCES usage_pages (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, subject, page)
);
CREATE INDEX usage_subjects_by_page ON usage_subjects (page);

-- One row a day for what was used by whom where. Rows with a tag repeat what the row without one counts.
CREATE TABLE usage_daily (
    day BIGINT NOT NULL,
    group_id BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tag TEXT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    input BIGINT NOT NULL,
    cached_input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (day, group_id, key_id, provider, model, tag)
);

-- Configuration made by the API: providers, models, prices, roles, rules, settings.
CREATE TABLE resources (
    id {id},
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    UNIQUE (kind, name)
);

-- Each row's hash covers the row and the hash before it.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    ip TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    detail TEXT,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);

-- Answers to creations that carried an Idempotency-Key; `answer` is sealed, for it may hold a new key.
CREATE TABLE idempotency (
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status BIGINT,
    answer TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (actor, key)
);

-- `id` is the place in the order, `message` the name. A receipt is there while somebody has it, or had it and its
-- lease has ended.
CREATE TABLE queue_messages (
    id {id},
    queue TEXT NOT NULL,
    message TEXT NOT NULL,
    partition_key TEXT,
    body {bytes} NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    visible_at BIGINT NOT NULL,
    leased_until BIGINT NOT NULL DEFAULT 0,
    receipt TEXT,
    enqueued_at BIGINT,
    UNIQUE (queue, message)
);
CREATE INDEX queue_messages_next ON queue_messages (queue, id);
CREATE INDEX queue_messages_order ON queue_messages (queue, partition_key, id) WHERE partition_key IS NOT NULL;

-- The failures of messages that stay with a broker to keep their place.
CREATE TABLE queue_notes (
    queue TEXT NOT NULL,
    message TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT,
    due_at BIGINT NOT NULL,
    PRIMARY KEY (queue, message)
);

CREATE TABLE queue_dead (
    id {id},
    queue TEXT NOT NULL,
    message TEXT NOT NULL,
    partition_key TEXT,
    body {bytes} NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT NOT NULL,
    enqueued_at BIGINT,
    died_at BIGINT NOT NULL,
    UNIQUE (queue, message)
);
CREATE INDEX queue_dead_by_queue ON queue_dead (queue, id);

CREATE TABLE cache_entries (
    name TEXT PRIMARY KEY,
    value {bytes} NOT NULL,
    size BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX cache_entries_expiry ON cache_entries (expires_at);
CREATE INDEX cache_entries_age ON cache_entries (written_at);
