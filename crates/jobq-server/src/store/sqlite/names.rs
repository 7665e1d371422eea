//! Names and their numbers in the database, remembered: names never change and never go.

use std::collections::HashMap;
use std::sync::Arc;

use jobq_proto::JobName;
use rusqlite::{Connection, OptionalExtension};

use super::recover::job_name;

/// The names that a connection has met. As many as there are names, which the machine bounds.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The one that [`Names::by_id`] gave last: jobs that follow each other often have the same.
    last: Option<(i64, Arc<JobName>)>,
    by_id: HashMap<i64, Arc<JobName>>,
    ids: HashMap<Arc<JobName>, i64>,
    /// The same by the addresses of those in `ids`, which stay there: the machine has one of each name for all its jobs, and
    /// its text need not be looked at.
    by_address: HashMap<usize, i64>,
}

impl Names {
    /// The name of this number.
    pub(super) fn by_id(&mut self, db: &Connection, id: i64) -> rusqlite::Result<Arc<JobName>> {
        if let Some((last, name)) = &self.last
            && *last == id
        {
            return Ok(Arc::clone(name));
        }
        let name = match self.by_id.get(&id) {
            Some(name) => Arc::clone(name),
            None => {
                let name = db
                    .prepare_cached("SELECT name FROM names WHERE id = ?")?
                    .query_row([id], |row| job_name(row, 0))?;
                self.by_id.insert(id, Arc::clone(&name));
                name
            }
        };
        self.last = Some((id, Arc::clone(&name)));
        Ok(name)
    }

    /// The number of this name, if it has one.
    pub(super) fn id(&mut self, db: &Connection, name: &Arc<JobName>) -> rusqlite::Result<Option<i64>> {
        let known = self.by_address.get(&address(name));
        if let Some(id) = known.or_else(|| self.ids.get(name)) {
            return Ok(Some(*id));
        }
        let id = db
            .prepare_cached("SELECT id FROM names WHERE name = ?")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            self.remember(name, id);
        }
        Ok(id)
    }

    /// The number of this name, which gets one if it has none.
    pub(super) fn id_or_new(&mut self, db: &Connection, name: &Arc<JobName>) -> rusqlite::Result<i64> {
        if let Some(id) = self.id(db, name)? {
            return Ok(id);
        }
        db.prepare_cached("INSERT INTO names (name) VALUES (?)")?
            .execute([name.as_str()])?;
        let id = db.last_insert_rowid();
        self.remember(name, id);
        Ok(id)
    }

    fn remember(&mut self, name: &Arc<JobName>, id: i64) {
        self.by_address.insert(address(name), id);
        let before = self.ids.insert(Arc::clone(name), id);
        debug_assert!(before.is_none(), "or another name would stay there");
    }
}

fn address(name: &Arc<JobName>) -> usize {
    Arc::as_ptr(name).addr()
}
