//! Statements that write many rows at a time.
//!
//! Most of what a small row costs is starting its statement, so rows of one kind that follow each other go together.

use rusqlite::types::ToSql;
use rusqlite::{Connection, Statement};

/// How many rows one statement writes at most. Each keeps a copy of the pages that it changes until it ends, so that more
/// rows in one cost less each: 256 take 0.85 to 0.9 of the time of 32, and more than 256 hardly less.
pub(super) const ROWS: usize = 256;

/// How many rows the statement for what is left of [`ROWS`] writes.
const SOME_ROWS: usize = 16;

/// One statement for three numbers of rows.
pub(super) struct RowStatement<'db> {
    one: Statement<'db>,
    some: Statement<'db>,
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
            some: db.prepare(&sql(SOME_ROWS))?,
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
        let (small_chunks, rest) = rest.as_chunks::<SOME_ROWS>();
        let mut changed = 0;
        for chunk in chunks {
            changed += execute(&mut self.many, chunk, &bind)?;
        }
        for chunk in small_chunks {
            changed += execute(&mut self.some, chunk, &bind)?;
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
