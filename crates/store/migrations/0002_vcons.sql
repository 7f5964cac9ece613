-- Conversations. `content` names the text as it was sent, `words` is 0 until it is in vcon_words.
CREATE TABLE vcons (
    id {id},
    uuid TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body {bytes} NOT NULL,
    content TEXT NOT NULL,
    trace TEXT,
    expires_at BIGINT NOT NULL DEFAULT 0,
    words BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX vcons_by_time ON vcons (created_at, id);
CREATE INDEX vcons_expiring ON vcons (expires_at) WHERE expires_at > 0;
CREATE INDEX vcons_without_words ON vcons (id) WHERE words = 0;

-- What a vCon is found by: `tel:…`, `mailto:…`, `name:…`, `tag:…`.
CREATE TABLE vcon_terms (
    term TEXT NOT NULL,
    uuid TEXT NOT NULL,
    PRIMARY KEY (term, uuid)
);
CREATE INDEX vcon_terms_by_uuid ON vcon_terms (uuid);

-- The lists a vCon was put into: whether it still waits there, and for which content that is sure.
CREATE TABLE vcon_lists (
    uuid TEXT NOT NULL,
    list TEXT NOT NULL,
    waiting BIGINT NOT NULL,
    content TEXT,
    PRIMARY KEY (uuid, list)
);

-- sqlite: CREATE VIRTUAL TABLE vcon_words USING fts5 (words, content='', contentless_delete=1, tokenize='unicode61');
-- postgres: CREATE TABLE vcon_words (id BIGINT PRIMARY KEY, words TSVECTOR NOT NULL);
-- postgres: CREATE INDEX vcon_words_index ON vcon_words USING GIN (words);
