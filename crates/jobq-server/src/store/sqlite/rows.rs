//! Statements that write many rows at a time.
//!
//! Most of what a small row costs is starting its statement, so rows of one kind that follow each other go together.

use rusqlite::types::ToSql;
use rusqlite::{Connection, Statement};

/// How many rows one statement writes. More brought nothing when measured.
pub(super) const ROWS: usize = 32;

/// One statement twice: for a single row and for [`ROWS`] of them.
pub(super) struct RowStatement<'db> {
    one: Statement<'db>,
    many: Statement<'db>,
}

/// Binds the values of rows, one after the other.
pub(super) struct Binder<'s, 'db> {
    statement: &'s mut Statement<'db>,
    next: usize,
}

impl<'db> RowStatement<'db> {
    /// Prepares `before`, then the rows of `columns` values, then `after`.
    pub(super) fn new(
        db: &'db Connection,
        before: &str,
        columns: usize,
        after: &str,
    ) -> rusqlite::Result<Self> {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let sql = |rows| format!("{before} {} {after}", vec![row.as_str(); rows].join(", "));
        Ok(Self {
            one: db.prepare(&sql(1))?,
            many: db.prepare(&sql(ROWS))?,
        })
    }

    /// Writes one row for each item, whose values `bind` gives; how many rows changed.
    pub(super) fn execute<T>(
        &mut self,
        items: &[T],
        bind: impl Fn(&T, &mut Binder<'_, 'db>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<usize> {
        let (chunks, rest) = items.as_chunks::<ROWS>();
        let mut changed = 0;
        for chunk in chunks {
            changed += execute(&mut self.many, chunk, &bind)?;
        }
        for item in rest {
            changed += execute(&mut self.one, std::slice::from_ref(item), &bind)?;
        }
        Ok(changed)
    }
}

fn execute<'db, T>(
    statement: &mut Statement<'db>,
    items: &[T],
    bind: impl Fn(&T, &mut Binder<'_, 'db>) -> rusqlite::Result<()>,
) -> rusqlite::Result<usize> {
    let mut binder = Binder { statement, next: 1 };
    for item in items {
        bind(item, &mut binder)?;
    }
    statement.raw_execute()
}

impl Binder<'_, '_> {
    /// Binds the next value.
    pub(super) fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }
}
