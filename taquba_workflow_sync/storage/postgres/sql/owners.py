"""Who has the store open, and who lives: the rows of owners, and the advisory locks that their sessions hold."""

from __future__ import annotations

from typing import Final

# begin: the lock of those who have the store open, and a lock of the owner's own under a key that nobody had before
TRY_ALONE: Final = "SELECT pg_try_advisory_lock(?)"

TRY_SHARED: Final = "SELECT pg_try_advisory_lock_shared(?)"

NEXT_KEY: Final = "SELECT nextval(CAST(? AS REGCLASS))"

HOLD: Final = "SELECT pg_advisory_lock(?)"

LET_GO_OF_ALL: Final = "SELECT pg_advisory_unlock_all()"

RECORD: Final = """INSERT INTO taquba_live (owner, lock_key, host, pid, is_exclusive) VALUES (?, ?, ?, ?, ? <> 0)"""

# begin again: not one who was declared dead: others have taken what it held, and it must not have that name again
RECORD_AGAIN: Final = "UPDATE taquba_live SET lock_key = ? WHERE owner = ? AND state = 'live'"

EVERYBODY: Final = "SELECT owner, host, pid, is_exclusive FROM taquba_live"

IS_FREE: Final = "SELECT pg_try_advisory_xact_lock_shared(lock_key) FROM taquba_live WHERE owner = ?"

# beat: {schema}, {owner}
STATE: Final = "SELECT state FROM \"{schema}\".taquba_live WHERE owner = '{owner}'"

# end: by the owner itself, with claims or without
LEAVE: Final = "UPDATE taquba_live SET state = 'dead' WHERE owner = ?"

FORGET: Final = "DELETE FROM taquba_live WHERE owner = ?"

DEAD: Final = "SELECT owner FROM taquba_live WHERE state = 'dead'"

# look
LOOK: Final = """SELECT owner, lock_key, state,
    CASE WHEN state = 'live' THEN pg_try_advisory_xact_lock_shared(lock_key) ELSE TRUE END FROM taquba_live"""

# look: for how long the server has kept its locks. The table is unlogged, so a crash and a promotion empty it: nothing
# else of theirs can be seen by every role
UP_FOR: Final = """SELECT CAST(extract(epoch FROM clock_timestamp() - greatest(seen, pg_postmaster_start_time()))
    AS DOUBLE PRECISION) FROM taquba_incarnation"""

NOTE_START: Final = "INSERT INTO taquba_incarnation (seen) VALUES (clock_timestamp()) ON CONFLICT DO NOTHING"

# declare: whoever does holds the lock, so its owner does not; and the row still names the lock that was watched
DECLARE: Final = """UPDATE taquba_live SET state = 'dead' WHERE owner = ? AND lock_key = ? AND state = 'live'
    AND pg_try_advisory_xact_lock_shared(lock_key)"""

# claim, before its COMMIT: fails (22012) where the owner is not a living one
IS_LIVING: Final = "SELECT 1 / count(*) FROM taquba_live WHERE owner = ? AND state = 'live'"
