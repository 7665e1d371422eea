//! The text that a peer shows, and what is kept of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// How tokens begin, so that people and programs that look for leaked secrets know one when they see it.
const PREFIX: &str = "jobq_";

/// Random bytes in a token.
const RANDOM_BYTES: usize = 32;

/// Bytes of the checksum behind them: CRC-32C.
const CHECKSUM_BYTES: usize = 4;

/// A new token: 256 random bits and a checksum, in a text without signs that a shell or a line break would change.
/// There is nothing that prints it but [`SecretToken::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct SecretToken(String);

/// What looks like a token is not a whole one. No server has to be asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it begins as a token of `jobq token create` does, and is not a whole one: something was cut off or changed"
)]
pub struct TokenDamaged;

impl SecretToken {
    /// A token of the system's random bytes.
    ///
    /// # Errors
    /// The system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; RANDOM_BYTES + CHECKSUM_BYTES];
        getrandom::fill(&mut bytes[..RANDOM_BYTES])?;
        let checksum = crc32c::crc32c(&bytes[..RANDOM_BYTES]);
        bytes[RANDOM_BYTES..].copy_from_slice(&checksum.to_be_bytes());
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The token itself, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Looks whether a text that begins like a token is a whole one. What begins otherwise may be any shared token.
    ///
    /// # Errors
    /// [`TokenDamaged`].
    pub fn check(text: &str) -> Result<(), TokenDamaged> {
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Ok(());
        };
        let bytes = URL_SAFE_NO_PAD.decode(rest).map_err(|_| TokenDamaged)?;
        let (random, checksum) = bytes.split_at_checked(RANDOM_BYTES).ok_or(TokenDamaged)?;
        let is_whole = checksum == crc32c::crc32c(random).to_be_bytes();
        is_whole.then_some(()).ok_or(TokenDamaged)
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(…)")
    }
}

/// SHA-256 of a token: what is kept of it. 256 random bits need no salt and no slow hash, since nobody can try them
/// all.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of what somebody shows.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// As 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its bytes, for a map. What somebody has just shown is compared in constant time instead.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Leaves the hash out: a shared token that somebody made up could be guessed from it.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// In a time that says nothing about how much of them is equal.
impl ConstantTimeEq for TokenHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_and_no_two_are_alike() {
        let one = SecretToken::generate().expect("the system has random bytes");
        let other = SecretToken::generate().expect("the system has random bytes");
        assert_ne!(one, other);
        assert!(
            one.reveal().starts_with("jobq_") && one.reveal().len() == 53,
            "{}",
            one.reveal()
        );
        assert_eq!(SecretToken::check(one.reveal()), Ok(()));
        assert_eq!(format!("{one:?}"), "SecretToken(…)");
    }

    #[test]
    fn a_token_that_was_cut_or_changed_is_told_from_a_whole_one() {
        let token = SecretToken::generate().expect("the system has random bytes");
        let whole = token.reveal();
        let swapped = if whole.ends_with('A') { "B" } else { "A" };
        for damaged in [
            &whole[..whole.len() - 1],
            &format!("{whole}x"),
            &format!("{}{swapped}", &whole[..whole.len() - 1]),
            "jobq_",
            "jobq_ä",
        ] {
            assert_eq!(SecretToken::check(damaged), Err(TokenDamaged), "{damaged}");
        }
        assert_eq!(SecretToken::check("any shared secret"), Ok(()));
    }

    #[test]
    fn a_hash_is_the_same_after_it_was_written_and_read() {
        let hash = TokenHash::of("secret");
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert_ne!(TokenHash::of("Secret"), hash);
        for bad in ["", "ab", &"g".repeat(64), &"ä".repeat(32), &hash.to_hex()[1..]] {
            assert_eq!(TokenHash::from_hex(bad), None, "{bad}");
        }
    }
}
