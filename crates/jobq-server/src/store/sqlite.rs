//! sqlite
/// S
#[derive(Debug)]
pub struct SqliteStore;
