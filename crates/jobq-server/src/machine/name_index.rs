//! Names by their texts.
//!
//! Each job that is submitted names its name by text. Among a thousand, a tree compares ten texts to find one, each in a
//! place of its own, which is a tenth of the time that the server has for a job; so they are hashed as well.

#![expect(
    clippy::disallowed_types,
    reason = "nobody goes through the hash map, and how it hashes follows from the machine's seed"
)]

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

use super::Map;
use super::names::NameKey;

/// Each name's key.
pub(super) struct NameIndex {
    by_text: Map<Arc<str>, NameKey>,
    by_hash: HashMap<Arc<str>, NameKey, Keyed>,
}

/// Hashes with a key that no peer knows, so that nobody can think names up that hash alike.
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl NameIndex {
    /// No names; texts are hashed with this key.
    pub(super) fn new(hash_key: u64) -> Self {
        Self {
            by_text: Map::new(),
            by_hash: HashMap::with_hasher(Keyed(hash_key)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_text.len()
    }

    pub(super) fn find(&self, text: &str) -> Option<NameKey> {
        self.by_hash.get(text).copied()
    }

    pub(super) fn insert(&mut self, text: &str, key: NameKey) {
        let text: Arc<str> = text.into();
        self.by_text.insert(Arc::clone(&text), key);
        self.by_hash.insert(text, key);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, text: &str) -> bool {
        self.by_hash.remove(text);
        self.by_text.remove(text).is_some()
    }

    /// All names, by their texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, NameKey)> {
        self.by_text.iter().map(|(text, key)| (&**text, *key))
    }
}
