//! sqlite
use std::path::Path;
use super::*;
/// S
#[derive(Debug)]
pub struct SqliteStore { recovered: Recovered }
/// R
#[derive(Debug, Clone)]
pub struct SqliteReader;
impl SqliteStore {
    /// Opens.
    pub fn open(_dir: &Path, _birth: Birth) -> Result<Self, StoreError> { Err(StoreError::Closed) }
}
impl Store for SqliteStore {
    type Reader = SqliteReader;
    fn recovered(&self) -> &Recovered { &self.recovered }
    fn live(&mut self, _: JobId, _: usize) -> Result<Vec<LiveJob>, StoreError> { Err(StoreError::Closed) }
    fn reader(&self) -> SqliteReader { SqliteReader }
    fn commit(&mut self, _: Batch) {}
    async fn recv(&mut self) -> Result<Stored, StoreError> { Err(StoreError::Closed) }
    async fn close(self) -> Result<(), StoreError> { Err(StoreError::Closed) }
}
impl StoreReader for SqliteReader {
    async fn read(&self, _: Read) -> Result<ReadAnswer, StoreError> { Err(StoreError::Closed) }
}
