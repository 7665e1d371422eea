//! Whether a database is sound.

use rusqlite::Connection;

use super::values::During;
use crate::store::StoreError;

/// Up to this size a database is checked at a start that follows no clean stop: about half a second's work.
pub(super) const QUICK_CHECK_BYTES: u64 = 64 * 1024 * 1024;

/// Most findings of SQLite's that are told.
const FINDINGS: u32 = 20;

/// SQLite's own check, without comparing indexes with their tables: what it found, if anything.
pub(super) fn quick_check(db: &Connection) -> Result<Vec<String>, StoreError> {
    findings(db, &format!("PRAGMA quick_check({FINDINGS})"))
}

fn findings(db: &Connection, pragma: &str) -> Result<Vec<String>, StoreError> {
    let mut check = db.prepare(pragma).during("be checked")?;
    let found = check
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
        .during("be checked")?;
    Ok(if found == ["ok"] { Vec::new() } else { found })
}
