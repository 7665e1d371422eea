//! Who may do what: tokens and certificates, the scope of each, and the job names that it may touch.
//!
//! [`Tokens`] is the list as it stands in the file `tokens` of the data directory; [`SecretToken`] is the text that a
//! peer shows. The machine compares the two, in `machine/access.rs`, and nothing else decides about access.

mod file;
mod patterns;
mod secret;

use std::fmt;
use std::str::FromStr;

use crate::time::Wall;

pub use file::{TokenFile, TokensError};
pub use patterns::{NamePatterns, PatternError};
pub use secret::{SecretToken, TokenDamaged, TokenHash};

/// Most entries in a list. Every one of them is compared with what a peer shows, so that the time it takes says nothing
/// about which was close.
pub const MAX_TOKENS: usize = 1_000;

/// How many tokens of one name may be valid at a time: the one in use, and the one that takes its place.
pub const MAX_VALID: usize = 2;

/// A shared token is to have at least so many bytes. Who makes one up may well make up a longer one that can be guessed;
/// a shorter one can be in any case.
pub const MIN_SHARED_TOKEN: usize = 16;

/// Longest name of an entry, in bytes. Names of certificates may be long.
pub const MAX_TOKEN_NAME: usize = 256;

/// What an entry allows its holder to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Submit, look, wait, cancel and retry.
    Submit,
    /// Take and settle jobs, and look.
    Work,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 3] = [Scope::Submit, Scope::Work, Scope::Admin];

    /// The scope as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Work => "work",
            Scope::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no scope; expected submit, work or admin"))
    }
}

/// How the holder of an entry proves to be that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By a token with this hash.
    Token(TokenHash),
    /// By a client certificate of the entry's name, which the transport has verified.
    Certificate,
}

/// One entry: who it is for, and what that one may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Tells entries of one name apart. It is no secret.
    pub id: String,
    /// Who it is for. Sessions belong to the name: tokens of one name can take each other's place.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// The job names that it may touch.
    pub only: NamePatterns,
    /// When it was made.
    pub created: Wall,
    /// From when on it counts no more; never where absent.
    pub expires: Option<Wall>,
    /// How its holder proves to be that.
    pub proof: Proof,
}

impl Token {
    /// A new token, and the entry for it.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate(
        name: String,
        scope: Scope,
        only: NamePatterns,
        now: Wall,
        expires: Option<Wall>,
    ) -> Result<(Self, SecretToken), getrandom::Error> {
        let secret = SecretToken::generate()?;
        let entry = Self::for_certificate(name, scope, only, now, expires)?;
        let proof = Proof::Token(TokenHash::of(secret.reveal()));
        Ok((Self { proof, ..entry }, secret))
    }

    /// A new entry for certificates of this name.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn for_certificate(
        name: String,
        scope: Scope,
        only: NamePatterns,
        now: Wall,
        expires: Option<Wall>,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            id: format!("{:08x}", getrandom::u32()?),
            name,
            scope,
            only,
            created: now,
            expires,
            proof: Proof::Certificate,
        })
    }

    /// Whether it counts at this time.
    pub fn is_valid(&self, now: Wall) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The list of entries. That there is one, even an empty one, means that nobody gets in without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    entries: Vec<Token>,
}

/// Why an entry was not added to a list, or not found in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The name cannot be one.
    #[error("the name {0:?} is empty, longer than {MAX_TOKEN_NAME} bytes, or has control characters")]
    BadName(String),
    /// The name has as many valid tokens as may be.
    #[error("{name} has {MAX_VALID} valid tokens already, {}: revoke the one that is out of use first", ids.join(" and "))]
    TooManyOfName {
        /// The name.
        name: String,
        /// The ids of its valid tokens.
        ids: Vec<String>,
    },
    /// There is an entry for certificates of this name.
    #[error("there is an entry for certificates of the name {0} already: revoke it first")]
    CertificateKnown(String),
    /// The list is full.
    #[error("there are {MAX_TOKENS} entries, and there can be no more: revoke those that are out of use")]
    TooMany,
    /// No entry has this name or id.
    #[error("no token has the name or id {0}; `jobq token list` shows those that there are")]
    Unknown(String),
}

impl Tokens {
    /// A list of these entries.
    pub fn new(entries: Vec<Token>) -> Self {
        Self { entries }
    }

    /// All entries, in the order in which they were made.
    pub fn entries(&self) -> &[Token] {
        &self.entries
    }

    /// Adds an entry; says its id.
    ///
    /// # Errors
    /// Its name cannot be one, or has as many valid entries as may be, or the list is full.
    pub fn add(&mut self, mut token: Token, now: Wall) -> Result<String, ChangeError> {
        let name = token.name.clone();
        if name.is_empty() || name.len() > MAX_TOKEN_NAME || name.chars().any(char::is_control) {
            return Err(ChangeError::BadName(name));
        }
        let is_certificate = token.proof == Proof::Certificate;
        let same = |other: &&Token| {
            other.name == name && other.is_valid(now) && (other.proof == Proof::Certificate) == is_certificate
        };
        let ids: Vec<String> = self
            .entries
            .iter()
            .filter(same)
            .map(|other| other.id.clone())
            .collect();
        if is_certificate && !ids.is_empty() {
            return Err(ChangeError::CertificateKnown(name));
        }
        if ids.len() >= MAX_VALID {
            return Err(ChangeError::TooManyOfName { name, ids });
        }
        if self.entries.len() >= MAX_TOKENS {
            return Err(ChangeError::TooMany);
        }
        while self.entries.iter().any(|other| other.id == token.id) {
            token.id.push('x'); // Ids are short, and chance may give one twice.
        }
        let id = token.id.clone();
        self.entries.push(token);
        Ok(id)
    }

    /// Takes the entry of this id, or else all of this name, out of the list.
    ///
    /// # Errors
    /// There is none.
    pub fn revoke(&mut self, name_or_id: &str) -> Result<Vec<Token>, ChangeError> {
        let by_id = self.entries.iter().any(|token| token.id == name_or_id);
        let is_meant = |token: &mut Token| match by_id {
            true => token.id == name_or_id,
            false => token.name == name_or_id,
        };
        let revoked: Vec<Token> = self.entries.extract_if(.., is_meant).collect();
        if revoked.is_empty() {
            return Err(ChangeError::Unknown(name_or_id.to_owned()));
        }
        Ok(revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000);

    fn token(id: &str, name: &str, proof: Proof) -> Token {
        Token {
            id: id.to_owned(),
            name: name.to_owned(),
            scope: Scope::Submit,
            only: NamePatterns::all(),
            created: NOW,
            expires: None,
            proof,
        }
    }

    fn secret(id: &str, name: &str) -> Token {
        token(id, name, Proof::Token(TokenHash::of(id)))
    }

    #[test]
    fn a_name_has_two_valid_tokens_at_most_and_expired_ones_do_not_count() {
        let mut tokens = Tokens::default();
        let old = Token {
            expires: Some(NOW),
            ..secret("0", "a")
        };
        for token in [old, secret("1", "a"), secret("2", "a"), secret("3", "b")] {
            tokens.add(token, NOW).expect("there is room");
        }
        let error = tokens.add(secret("4", "a"), NOW).expect_err("there are two");
        assert!(error.to_string().contains("1 and 2"), "{error}");
        tokens.revoke("1").expect("it is there");
        tokens.add(secret("4", "a"), NOW).expect("there is one");
    }

    #[test]
    fn an_id_revokes_one_token_and_a_name_all_of_it() {
        let mut tokens = Tokens::new(vec![secret("1", "a"), secret("2", "a"), secret("3", "b")]);
        assert_eq!(tokens.revoke("2").expect("it is there").len(), 1);
        assert_eq!(tokens.revoke("a").expect("it is there").len(), 1);
        assert_eq!(tokens.revoke("a"), Err(ChangeError::Unknown("a".to_owned())));
        assert_eq!(tokens.entries().len(), 1);
    }

    #[test]
    fn a_certificate_has_one_entry_beside_the_tokens_of_its_name() {
        let mut tokens = Tokens::default();
        tokens.add(secret("1", "a"), NOW).expect("there is room");
        tokens
            .add(token("2", "a", Proof::Certificate), NOW)
            .expect("it is the first");
        let second = tokens.add(token("3", "a", Proof::Certificate), NOW);
        assert_eq!(second, Err(ChangeError::CertificateKnown("a".to_owned())));
    }

    #[test]
    fn names_that_would_break_a_listing_are_refused() {
        for name in ["", "a\nb", &"x".repeat(MAX_TOKEN_NAME + 1)] {
            let added = Tokens::default().add(secret("1", name), NOW);
            assert_eq!(added, Err(ChangeError::BadName(name.to_owned())));
        }
    }
}
