//! memory
/// M
#[derive(Debug)]
pub struct MemoryStore;
