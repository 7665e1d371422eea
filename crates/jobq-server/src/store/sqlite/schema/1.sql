-- The first schema. A version that was released never changes; the next one is a file of its own.
--
-- Times are microseconds since 1970 (UTC), durations microseconds. Codes, as `values.rs` has them:
--   priority  0 High, 1 Normal, 2 Low
--   status    0 Completed, 1 Failed, 2 Cancelled
--   end       0 Completed, 1 Failed, 2 Released, 3 Lost, 4 TimedOut
-- Foreign keys are left out: the writer keeps the tables in step, and each would cost a look-up a row.

CREATE TABLE meta (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    identity   BLOB NOT NULL,
    epoch      INTEGER NOT NULL,
    last_batch INTEGER NOT NULL,
    next_id    INTEGER NOT NULL,
    clock      INTEGER NOT NULL
) STRICT;

CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- How many of each name's jobs have ended and have rows in `done`: kept, not counted. A row is for the names whose ids
-- are `64 * block` to `64 * block + 63`, and `counts` an array of `[completed, failed, cancelled]` for each: a commit
-- ends jobs of many names, and a row for each of them would cost as much as half of what is said of their ends.
CREATE TABLE totals (
    block  INTEGER PRIMARY KEY,
    counts TEXT NOT NULL
) STRICT;

-- The same by name.
CREATE VIEW name_totals AS
SELECT
    n.id,
    n.name,
    coalesce(t.counts ->> ('$[' || (n.id % 64) || '][0]'), 0) AS completed,
    coalesce(t.counts ->> ('$[' || (n.id % 64) || '][1]'), 0) AS failed,
    coalesce(t.counts ->> ('$[' || (n.id % 64) || '][2]'), 0) AS cancelled
FROM names n
LEFT JOIN totals t ON t.block = n.id / 64;

-- Jobs as they were asked for. A row never changes and never moves, so that ending a job copies no params, and one
-- index makes a uuid unique over live and ended jobs.
CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY,
    uuid             BLOB NOT NULL UNIQUE,
    name_id          INTEGER NOT NULL,
    priority         INTEGER NOT NULL,
    created          INTEGER NOT NULL,
    username         TEXT,
    max_attempts     INTEGER,
    timeout          INTEGER,
    backoff_base     INTEGER,
    backoff_exponent INTEGER,
    backoff_max      INTEGER,
    retry_of         INTEGER,
    due              INTEGER, -- from when on it may run; null for at once, from `created` on
    checksum         INTEGER NOT NULL, -- CRC-32C of the rest, and 2^32 where a column from `username` to `due` is
                              -- not null, as `checksum.rs` has it
    params           BLOB NOT NULL
) STRICT;
-- Costs nothing for jobs without a username. An index by name would cost every insert a fifth: names are looked
-- through instead.
CREATE INDEX jobs_by_username ON jobs (username, id) WHERE username IS NOT NULL;
CREATE INDEX jobs_timed ON jobs (id) WHERE due IS NOT NULL;

-- What is known of the jobs with the ids `1024 * block` to `1024 * block + 1023`, so that listings and the removal of
-- old records pass over blocks that do not concern them. Bit `i % 8` of byte `i / 8` of `names` is set if the block
-- has, or had, jobs of a name whose id is `i` modulo 1024. The times are those at which the first of the jobs ended
-- that completed, failed or were cancelled and have rows in `done`.
CREATE TABLE blocks (
    block     INTEGER PRIMARY KEY,
    names     BLOB NOT NULL,
    completed INTEGER,
    failed    INTEGER,
    cancelled INTEGER
) STRICT;

-- The ids of the jobs that have not ended, 1024 to a block: bit `i % 8` of byte `i / 8` stands for the id
-- `1024 * block + i`. A block without a live job has no row. It repeats what `jobs` and `done` say, so that the start
-- passes over no history; a row for each job would cost a submit and a settlement a fifth each.
CREATE TABLE live_ids (
    block INTEGER PRIMARY KEY,
    bits  BLOB NOT NULL
) STRICT;

-- What a start needs to know of the jobs of a block, as they arrived: `arrivals.rs` packs it. A block has a row from when
-- no more jobs arrive in it until none of its jobs is live. It repeats what `jobs` says, among params that nobody needs
-- at a start.
CREATE TABLE arrivals (
    block    INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL, -- CRC-32C of the number in 8 bytes, the lowest first, and `jobs`
    jobs     BLOB NOT NULL
) STRICT;

-- What has happened to live jobs since they arrived. Jobs to which nothing has happened, as to most, have no row.
CREATE TABLE live (
    id            INTEGER PRIMARY KEY,
    due           INTEGER, -- null: as the job says
    attempts      INTEGER NOT NULL DEFAULT 0,
    charges       INTEGER NOT NULL DEFAULT 0,
    cancelling    INTEGER NOT NULL DEFAULT 0,
    floor_epoch   INTEGER,
    floor_seq     INTEGER,
    floor_end     INTEGER,
    lease_session INTEGER,
    lease_epoch   INTEGER,
    lease_seq     INTEGER,
    lease_started INTEGER,
    lease_at      INTEGER
) STRICT;
CREATE INDEX live_leased ON live (id) WHERE lease_session IS NOT NULL;

-- How jobs ended.
CREATE TABLE done (
    id       INTEGER PRIMARY KEY,
    name_id  INTEGER NOT NULL,
    due      INTEGER, -- null: as the job says
    status   INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    started  INTEGER,
    ran      INTEGER,
    attempts INTEGER NOT NULL,
    charges  INTEGER NOT NULL,
    epoch    INTEGER,
    seq      INTEGER,
    run_end  INTEGER,
    reason   TEXT,
    result   BLOB
) STRICT;
CREATE INDEX done_badly ON done (status, id) WHERE status <> 0;

-- Runs that neither completed their job nor gave it back.
CREATE TABLE runs (
    job    INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    end    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (job, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id          INTEGER PRIMARY KEY,
    label       TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    names       TEXT NOT NULL, -- separated by commas, which no name contains
    ttl         INTEGER NOT NULL
) STRICT;

-- For people with a `sqlite3` shell and for reports.
CREATE VIEW all_jobs AS
SELECT
    j.id,
    lower(substr(hex(j.uuid), 1, 8) || '-' || substr(hex(j.uuid), 9, 4) || '-' || substr(hex(j.uuid), 13, 4)
        || '-' || substr(hex(j.uuid), 17, 4) || '-' || substr(hex(j.uuid), 21)) AS uuid,
    n.name,
    j.username,
    CASE j.priority WHEN 0 THEN 'High' WHEN 1 THEN 'Normal' ELSE 'Low' END AS priority,
    CASE
        WHEN d.id IS NOT NULL THEN CASE d.status WHEN 0 THEN 'Completed' WHEN 1 THEN 'Failed' ELSE 'Cancelled' END
        WHEN l.lease_session IS NOT NULL THEN 'Processing'
        WHEN nullif(coalesce(l.due, j.due), j.created) > unixepoch('now', 'subsec') * 1000000 THEN 'Scheduled'
        ELSE 'Queued'
    END AS status,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.created / 1e6, 'unixepoch') AS created,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(l.due, d.due, j.due, j.created) / 1e6, 'unixepoch') AS due,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(l.lease_at, d.started) / 1e6, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', d.ended / 1e6, 'unixepoch') AS ended,
    d.ran / 1e6 AS ran_seconds,
    coalesce(d.attempts, l.attempts, 0) AS attempts,
    d.reason,
    j.retry_of,
    j.params,
    d.result
FROM jobs j
JOIN names n ON n.id = j.name_id
LEFT JOIN live l ON l.id = j.id
LEFT JOIN done d ON d.id = j.id;
