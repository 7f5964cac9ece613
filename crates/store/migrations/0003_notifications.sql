-- What people should know: a group's credit comes to its end, a key has to be rotated. `subject` is what it is said
-- about, so that of all replicas and all hours it is said once.
CREATE TABLE notifications (
    id {id},
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL,
    group_id BIGINT,
    key_id BIGINT,
    at BIGINT NOT NULL,
    read_at BIGINT
);
CREATE INDEX notifications_by_time ON notifications (at);
