//! The numbers in the first byte of a CBOR item.

pub(super) const UNSIGNED: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const MAP: u8 = 5;
pub(super) const TAG: u8 = 6;
pub(super) const SIMPLE: u8 = 7;

pub(super) const FALSE: u64 = 20;
pub(super) const TRUE: u64 = 21;
pub(super) const NULL: u64 = 22;
pub(super) const UNDEFINED: u64 = 23;

/// Ends an array, a map or a string whose length was not given.
pub(super) const BREAK: u8 = 0xff;

/// The beginning of an item: what kind it is, and its number, its length, or nothing if its length is not given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) major: u8,
    pub(super) value: Option<u64>,
}
