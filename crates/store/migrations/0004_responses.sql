-- Responses that may be asked for again, or gone on from: here, or at the provider that keeps them itself.
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    provider TEXT,
    response TEXT,
    input TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX responses_expiry ON responses (expires_at);
