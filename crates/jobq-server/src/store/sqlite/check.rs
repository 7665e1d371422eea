//! Whether a database is sound.

use std::collections::BTreeMap;
use std::path::Path;

use jobq_proto::{JobId, Status};
use rusqlite::{Connection, InterruptHandle, Row};

use super::arrivals::{self, Arrival};
use super::blocks::Summary;
use super::live::{BLOCK, Bits};
use super::lookup::{DUE_AT, NAME_AT, RECORD_WIDTH, record, record_columns};
use super::names::Names;
use super::values::{Code, During, Unsigned};
use super::watermark::{self, Watermark};
use super::{recover, schema};
use crate::store::{JobRecord, StoreError};
use crate::time::Wall;

/// Up to this size a database is checked at a start that follows no clean stop: about half a second's work.
pub(super) const QUICK_CHECK_BYTES: u64 = 64 * 1024 * 1024;

/// Most findings that are told, over all and of SQLite's own check; the others are counted.
const FINDINGS: usize = 100;

/// Jobs between two reports of progress.
const REPORT_EVERY: u64 = 1_000;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Jobs that could be read.
    pub jobs: u64,
    /// Those of them that have not ended.
    pub live: u64,
    /// The number of the last commit.
    pub last_commit: u64,
    /// What is wrong, one sentence each; nothing for a sound database.
    pub findings: Vec<String>,
    /// How many findings are left out.
    pub more: u64,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckProgress {
    /// SQLite looks at the pages; it does not say how far it is.
    Pages,
    /// So many jobs have been looked at.
    Jobs {
        /// How many have been.
        done: u64,
        /// How many there should be.
        of: u64,
    },
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, finding: impl Into<String>) {
        if self.findings.len() < FINDINGS {
            self.findings.push(finding.into());
        } else {
            self.more += 1;
        }
    }
}

/// Looks at everything in the database of the directory `dir`, which no server may use meanwhile: hold a
/// [`crate::lock::DataDir`]. Changes nothing. Blocks for as long as reading all of it takes, and more.
///
/// # Errors
/// When there is no database, or it is not ours or of another version. What is damaged is in the report.
pub fn check(dir: &Path, mut progress: impl FnMut(CheckProgress)) -> Result<CheckReport, StoreError> {
    let mark = Watermark::read(dir)?;
    let db = schema::open_to_check(dir)?;
    progress(CheckProgress::Pages);
    let pages = findings(&db, &format!("PRAGMA integrity_check({FINDINGS})"));
    let mut report = look_at(&db, pages, &mut progress);
    if let Some(mark) = mark
        && report.last_commit > 0
        && let Err(error) = watermark::check(dir, mark, report.last_commit)
    {
        report.find(error.to_string());
    }
    Ok(report)
}

/// Looks at everything in a backup, a file that nobody writes to, but whether its indexes fit its tables. Changes
/// nothing and makes no file beside it. Blocks for as long as reading all of it takes, and more.
///
/// # Errors
/// When the file cannot be opened, is not ours or of another version. What is damaged is in the report.
pub fn check_backup(file: &Path, progress: impl FnMut(CheckProgress)) -> Result<CheckReport, StoreError> {
    check_copy(file, |_| false, progress)
}

/// As [`check_backup`]; `begun` gets what interrupts it, and says whether it is not to go on.
pub(super) fn check_copy(
    file: &Path,
    begun: impl FnOnce(InterruptHandle) -> bool,
    mut progress: impl FnMut(CheckProgress),
) -> Result<CheckReport, StoreError> {
    let db = match schema::open_copy(file) {
        Err(error) if error.is_corruption() => {
            let mut report = CheckReport::default();
            report.find(error.to_string());
            return Ok(report);
        }
        db => db?,
    };
    if begun(db.get_interrupt_handle()) {
        return Err(StoreError::Closed);
    }
    progress(CheckProgress::Pages);
    let pages = quick_check(&db);
    Ok(look_at(&db, pages, &mut progress))
}

/// What SQLite has found of the pages, and what jobq looks at itself.
fn look_at(
    db: &Connection,
    pages: Result<Vec<String>, StoreError>,
    progress: &mut impl FnMut(CheckProgress),
) -> CheckReport {
    let mut report = CheckReport::default();
    match pages {
        Ok(found) => found.into_iter().for_each(|finding| report.find(finding)),
        Err(error) => report.find(error.to_string()),
    }
    let looked = Checker {
        db,
        names: Names::default(),
        report: &mut report,
    }
    .look(progress);
    if let Err(error) = looked {
        report.find(error.to_string());
    }
    report
}

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

/// Looks at what jobq itself keeps in step: the tables, and what is kept of their sums.
struct Checker<'a> {
    db: &'a Connection,
    names: Names,
    report: &'a mut CheckReport,
}

/// How many jobs of a name completed, failed and were cancelled.
type Ended = [u64; 3];

/// What `arrivals` has of the block that is looked at.
#[derive(Default)]
struct Packed {
    block: Option<u64>,
    /// None where there is nothing, or nothing that can be read.
    jobs: Option<Vec<Arrival>>,
}

/// What follows from the jobs themselves.
#[derive(Default)]
struct Counted {
    /// How many ended, by the number of their name.
    ended: BTreeMap<i64, Ended>,
    /// What is to be known of each 1,024 ids.
    blocks: BTreeMap<u64, Summary>,
}

impl Checker<'_> {
    fn look(mut self, progress: &mut impl FnMut(CheckProgress)) -> Result<(), StoreError> {
        self.report.last_commit = recover::last_batch(self.db)?;
        let mut live = self.live_ids()?;
        let totals = self.totals()?;
        let ended: u64 = totals.values().flatten().sum();
        let bits: u64 = live.values().map(|bits| bits.places().count() as u64).sum();
        let mut counted = Counted::default();
        self.jobs(ended + bits, &mut live, &mut counted, progress)?;
        for (block, bits) in live {
            for place in bits.places() {
                let id = JobId(block * BLOCK + place);
                self.report
                    .find(format!("job {id} counts as live, and there is no such job"));
            }
        }
        self.compare_totals(&totals, &counted.ended)?;
        self.compare_blocks(&counted.blocks)?;
        self.strays()
    }

    /// The blocks of live ids.
    fn live_ids(&self) -> Result<BTreeMap<u64, Bits>, StoreError> {
        let mut blocks = self
            .db
            .prepare("SELECT block, bits FROM live_ids")
            .during("be read")?;
        let blocks = blocks.query_map([], |row| Ok((row.get::<_, Unsigned>(0)?.0, row.get(1)?)));
        blocks.and_then(Iterator::collect).during("list its live jobs")
    }

    /// What is kept of how many jobs of each name ended.
    fn totals(&self) -> Result<BTreeMap<i64, Ended>, StoreError> {
        let mut names = self
            .db
            .prepare("SELECT id, completed, failed, cancelled FROM name_totals")
            .during("be read")?;
        let names = names.query_map([], |row| {
            let count = |at| row.get::<_, Unsigned>(at).map(|count| count.0);
            Ok((row.get(0)?, [count(1)?, count(2)?, count(3)?]))
        });
        names.and_then(Iterator::collect).during("read its names")
    }

    /// Looks at each job, and takes those that are live out of `live`.
    fn jobs(
        &mut self,
        expected: u64,
        live: &mut BTreeMap<u64, Bits>,
        counted: &mut Counted,
        progress: &mut impl FnMut(CheckProgress),
    ) -> Result<(), StoreError> {
        let next_id: Unsigned = self
            .db
            .query_row("SELECT next_id FROM meta", [], |row| row.get(0))
            .during("be read")?;
        let sql = format!(
            "SELECT {}, d.id IS NOT NULL, d.status, d.name_id, j.name_id, d.ended FROM jobs j LEFT JOIN done d ON d.id = j.id \
             ORDER BY j.id",
            record_columns()
        );
        let mut jobs = self.db.prepare(&sql).during("be read")?;
        let mut rows = jobs.query([]).during("be read")?;
        let mut packed = Packed::default();
        while let Some(row) = rows.next().during("read its jobs")? {
            let id = row.get::<_, Unsigned>(0).during("read a job")?.0;
            self.report.jobs += 1;
            let is_live = take(live, id);
            match record(row, &mut self.names, self.db).during("read the name of a job") {
                Ok(record) => {
                    let job = arrival(row, &record).during("read a job")?;
                    if is_live && !self.is_packed_as(&job, &mut packed)? {
                        self.report
                            .find(format!("what is packed of job {id} is not what it is"));
                    }
                }
                Err(StoreError::Damaged(finding)) if finding.contains("job ") => self.report.find(finding),
                Err(error) => self.report.find(format!("job {id} cannot be read: {error}")),
            }
            let has_ended: bool = row.get(RECORD_WIDTH).during("read how a job ended")?;
            match (is_live, has_ended) {
                (true, true) => self.report.find(format!("job {id} has ended and counts as live")),
                (false, false) => self
                    .report
                    .find(format!("job {id} has not ended and does not count as live")),
                (true, false) => self.report.live += 1,
                (false, true) => {}
            }
            let asked_for: i64 = row.get(RECORD_WIDTH + 3).during("read a job")?;
            let block = counted.blocks.entry(id / BLOCK).or_default();
            block.arrived(asked_for);
            if has_ended {
                let name: i64 = row.get(RECORD_WIDTH + 2).during("read how a job ended")?;
                if name != asked_for {
                    self.report.find(format!("job {id} ended under another name"));
                }
                match row.get::<_, Code<Status>>(RECORD_WIDTH + 1) {
                    Ok(Code(status)) => {
                        counted.ended.entry(name).or_default()[place(status)] += 1;
                        block.ended(
                            status,
                            Wall(row.get(RECORD_WIDTH + 4).during("read how a job ended")?),
                        );
                    }
                    Err(error) => self.report.find(format!("job {id} ended in no way: {error}")),
                }
            }
            if id >= next_id.0 {
                self.report.find(format!(
                    "job {id} is there, and the next job would be {}",
                    next_id.0
                ));
            }
            if self.report.jobs.is_multiple_of(REPORT_EVERY) {
                progress(CheckProgress::Jobs {
                    done: self.report.jobs,
                    of: expected,
                });
            }
        }
        Ok(())
    }

    /// Whether a live job is packed as it is, where its block is packed.
    fn is_packed_as(&mut self, job: &Arrival, packed: &mut Packed) -> Result<bool, StoreError> {
        let block = job.id.0 / BLOCK;
        if packed.block != Some(block) {
            let stored = arrivals::Stored::read(self.db, block).during("read what is packed")?;
            let jobs = stored.map(|stored| {
                stored.jobs.unwrap_or_else(|| {
                    let (first, last) = (block * BLOCK, block * BLOCK + BLOCK - 1);
                    self.report
                        .find(format!("what is packed of the jobs {first} to {last} is damaged"));
                    Vec::new()
                })
            });
            *packed = Packed {
                block: Some(block),
                jobs: jobs.filter(|jobs| !jobs.is_empty()),
            };
        }
        Ok(packed.jobs.as_ref().is_none_or(|jobs| {
            let found = jobs.binary_search_by_key(&job.id, |packed| packed.id);
            found.is_ok_and(|at| jobs[at] == *job)
        }))
    }

    fn compare_totals(
        &mut self,
        kept: &BTreeMap<i64, Ended>,
        counted: &BTreeMap<i64, Ended>,
    ) -> Result<(), StoreError> {
        for (name, kept) in kept {
            let counted = counted.get(name).copied().unwrap_or_default();
            for (at, status) in ["completed", "failed", "cancelled"].into_iter().enumerate() {
                if kept[at] != counted[at] {
                    let name = self
                        .names
                        .by_id(self.db, *name)
                        .during("read the name of a job")?;
                    self.report.find(format!(
                        "{} jobs of {name} have {status}, and {} are counted",
                        counted[at], kept[at]
                    ));
                }
            }
        }
        Ok(())
    }

    /// Compares what is kept of each 1,024 ids: listings and the removal of records go by it.
    fn compare_blocks(&mut self, counted: &BTreeMap<u64, Summary>) -> Result<(), StoreError> {
        let mut kept = Summary::read(self.db).during("read the sums of its jobs")?;
        for (block, counted) in counted {
            let kept = kept.remove(block).unwrap_or_default();
            for wrong in kept.wrong_for(counted) {
                let (first, last) = (block * BLOCK, block * BLOCK + BLOCK - 1);
                self.report
                    .find(format!("of the jobs {first} to {last} it is not known {wrong}"));
            }
        }
        for (block, _) in kept.into_iter().filter(|(_, kept)| kept.has_ends()) {
            let first = block * BLOCK;
            self.report.find(format!(
                "jobs from {first} on are said to have ended, and there are none"
            ));
        }
        Ok(())
    }

    /// Looks for rows that belong to no job.
    fn strays(&mut self) -> Result<(), StoreError> {
        for (what, sql) in [
            (
                "has ended, and there is no such job",
                "SELECT d.id FROM done d LEFT JOIN jobs j ON j.id = d.id WHERE j.id IS NULL",
            ),
            (
                "has a row among the live ones, and is not live",
                "SELECT l.id FROM live l LEFT JOIN jobs j ON j.id = l.id LEFT JOIN done d ON d.id = l.id \
                 WHERE j.id IS NULL OR d.id IS NOT NULL",
            ),
            (
                "has runs, and there is no such job",
                "SELECT DISTINCT r.job FROM runs r LEFT JOIN jobs j ON j.id = r.job WHERE j.id IS NULL",
            ),
            (
                "begins a block that is packed, and none of which is live",
                "SELECT 1024 * block FROM arrivals WHERE block NOT IN (SELECT block FROM live_ids)",
            ),
        ] {
            let mut strays = self.db.prepare(sql).during("be read")?;
            let mut rows = strays.query([]).during("be read")?;
            while let Some(row) = rows.next().during("be read")? {
                let id = row.get::<_, Unsigned>(0).during("be read")?.0;
                self.report.find(format!("job {id} {what}"));
            }
        }
        Ok(())
    }
}

/// What should be packed of a job in [`record_columns`].
fn arrival(row: &Row<'_>, record: &JobRecord) -> rusqlite::Result<Arrival> {
    Ok(Arrival {
        id: record.id,
        name: row.get(NAME_AT)?,
        priority: record.priority,
        created: record.created,
        due: Wall(row.get(DUE_AT)?),
        params_bytes: record.params.len() as u64,
    })
}

/// Takes an id out of the live ones; whether it was among them.
fn take(live: &mut BTreeMap<u64, Bits>, id: u64) -> bool {
    let place = id % BLOCK;
    match live.get_mut(&(id / BLOCK)).filter(|bits| bits.has(place)) {
        Some(bits) => {
            bits.set(place, false);
            true
        }
        None => false,
    }
}

/// Where a status stands in [`Ended`].
fn place(status: Status) -> usize {
    match status {
        Status::Completed => 0,
        Status::Failed => 1,
        _ => 2,
    }
}
