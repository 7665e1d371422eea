//! The list of tokens as a file of the data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ChangeError, MAX_TOKENS, NamePatterns, Proof, Token, TokenHash, Tokens};
use crate::lock::open_own;
use crate::time::Wall;

/// The file's name within the data directory.
const FILE: &str = "tokens";

/// What a new list is written as, before it takes the place of the old one.
const NEW: &str = "tokens.new";

/// What two commands that change the list at the same time wait for. It stays behind, unlocked.
const LOCK: &str = "tokens.lock";

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// Longest file that is read, in bytes: more than the most entries with the longest names and patterns.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Only the server's user reads and writes the file.
const MODE: u32 = 0o600;

const HEAD: &str = "\
# Who gets into this jobq server. `jobq token` writes this file; its format is in docs/OPERATIONS.md.
# Tokens themselves are not in it, only their SHA-256. Times are seconds since 1970 (UTC).

";

/// The list of tokens in a data directory, to be changed by nobody else until this is dropped.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    _lock: File,
}

/// Why the list of tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file or its directory cannot be used.
    #[error("{what} {} cannot be used: {source}", path.display())]
    Io {
        /// Which it is: `the directory`, or `the list of tokens`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("the list of tokens {} is not as `jobq token` writes it: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The file was there before, and is not any more. A server would let everybody in if it went by that.
    #[error("the list of tokens {} is gone; to let everybody in, stop the server and start it without", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The change cannot be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Tokens {
    /// Reads the list of a data directory; none if it has no such file.
    ///
    /// # Errors
    /// [`TokensError::Io`] or [`TokensError::Malformed`].
    pub fn load(directory: &Path) -> Result<Option<Self>, TokensError> {
        let path = directory.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            // What is wrong with the directory is for whoever uses it to say.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unusable(&path, error)),
        };
        let mut text = String::new();
        let mode = file.metadata().map(|found| found.mode());
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
        let mode = read.and(mode).map_err(|error| unusable(&path, error))?;
        if text.len() as u64 > MAX_BYTES {
            // Cut between two entries it would be a list like any other.
            let reason = format!("it has more than {MAX_BYTES} bytes");
            return Err(TokensError::Malformed { path, reason });
        }
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                "others than its owner may read or change the list of tokens: chmod 600 it"
            );
        }
        parse(&text)
            .map(Some)
            .map_err(|reason| TokensError::Malformed { path, reason })
    }
}

impl TokenFile {
    /// Keeps others from changing the list of a data directory, which is made if need be, for its owner only.
    ///
    /// # Errors
    /// [`TokensError::Io`].
    pub fn lock(directory: impl Into<PathBuf>) -> Result<Self, TokensError> {
        let path = directory.into();
        let lock = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let lock = open_lock(&path)?;
            lock.lock()?;
            Ok(lock)
        };
        match lock() {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(source) => Err(TokensError::Io {
                what: "the directory",
                path,
                source,
            }),
        }
    }

    /// The list; empty where there is no file yet.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn load(&self) -> Result<Tokens, TokensError> {
        Ok(Tokens::load(&self.path)?.unwrap_or_default())
    }

    /// Puts this list in the place of the one that was there, at once and durably: a crash leaves one of the two.
    ///
    /// # Errors
    /// [`TokensError::Io`].
    pub fn save(&self, tokens: &Tokens) -> Result<(), TokensError> {
        let path = self.path.join(FILE);
        let replace = || -> io::Result<()> {
            let new = self.path.join(NEW);
            let _ = std::fs::remove_file(&new); // What a crash has left; if it cannot be removed, opening it says why.
            let mut file = create_new(&new, &self.path)?;
            file.write_all(write(tokens).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        replace().map_err(|error| unusable(&path, error))
    }
}

impl TokensError {
    /// That a data directory has its list no more.
    pub(crate) fn gone(directory: &Path) -> Self {
        TokensError::Gone {
            path: directory.join(FILE),
        }
    }
}

fn open_lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    match create_new(&path, directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            open_own(OpenOptions::new().read(true).write(true), &path)
        }
        made => made,
    }
}

/// Makes a file that was not there, whatever name it has or is a link by.
fn create_new(path: &Path, directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    own_as(&file, directory)?;
    Ok(file)
}

/// Gives a file that was made a moment ago to whom the directory belongs, so that root may make tokens for a server
/// with a user of its own.
fn own_as(file: &File, directory: &Path) -> io::Result<()> {
    let (ours, theirs) = (file.metadata()?, std::fs::metadata(directory)?);
    if ours.uid() == theirs.uid() {
        return Ok(());
    }
    fchown(file, Some(theirs.uid()), Some(theirs.gid()))
}

fn unusable(path: &Path, source: io::Error) -> TokensError {
    TokensError::Io {
        what: "the list of tokens",
        path: path.to_owned(),
        source,
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    #[serde(default)]
    token: Vec<Entry>,
}

/// A [`Token`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: String,
    scope: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    only: Vec<String>,
    created: i64,
    expires: Option<i64>,
    /// Absent for a certificate.
    sha256: Option<String>,
}

const SECOND: i64 = 1_000_000;

fn write(tokens: &Tokens) -> String {
    let entry = |token: &Token| Entry {
        id: token.id.clone(),
        name: token.name.clone(),
        scope: token.scope.as_str().to_owned(),
        only: token.only.patterns().to_vec(),
        created: token.created.0 / SECOND,
        expires: token.expires.map(|expires| expires.0 / SECOND),
        sha256: match token.proof {
            Proof::Token(hash) => Some(hash.to_hex()),
            Proof::Certificate => None,
        },
    };
    let contents = Contents {
        format: FORMAT,
        token: tokens.entries().iter().map(entry).collect(),
    };
    let written =
        toml::to_string(&contents).expect("texts, numbers and lists of them can be written as TOML");
    format!("{HEAD}{written}")
}

fn parse(text: &str) -> Result<Tokens, String> {
    // Without the line itself, which may be what somebody took for a place to keep a token.
    let contents: Contents = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    })?;
    if contents.format != FORMAT {
        return Err(format!(
            "its format is {}, and this jobq reads format {FORMAT}",
            contents.format
        ));
    }
    if contents.token.len() > MAX_TOKENS {
        return Err(format!("it has more than {MAX_TOKENS} tokens"));
    }
    let tokens = contents.token.into_iter().map(|entry| {
        let id = entry.id.clone();
        entry.check().map_err(|reason| format!("token {id:?}: {reason}"))
    });
    tokens.collect::<Result<_, _>>().map(Tokens::new)
}

impl Entry {
    fn check(self) -> Result<Token, String> {
        let time = |seconds: i64| Wall(seconds.saturating_mul(SECOND));
        if self.name.is_empty() || self.id.is_empty() {
            return Err("its name or id is empty".to_owned());
        }
        let proof = match self.sha256 {
            None => Proof::Certificate,
            Some(hex) => {
                Proof::Token(TokenHash::from_hex(&hex).ok_or("sha256 is not 64 hexadecimal digits")?)
            }
        };
        Ok(Token {
            id: self.id,
            name: self.name,
            scope: self.scope.parse()?,
            only: NamePatterns::new(self.only).map_err(|error| error.to_string())?,
            created: time(self.created),
            expires: self.expires.map(time),
            proof,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;

    fn tokens() -> Tokens {
        let hashed = Token {
            id: "k3v9x2ab".to_owned(),
            name: "thumbnails".to_owned(),
            scope: Scope::Work,
            only: NamePatterns::new(vec!["thumbnail*".to_owned()]).expect("it is a pattern"),
            created: Wall(1_795_392_000 * SECOND),
            expires: Some(Wall(1_803_168_000 * SECOND)),
            proof: Proof::Token(TokenHash::of("secret")),
        };
        let certificate = Token {
            id: "q7".to_owned(),
            name: "spiffe://a/\"b\" c".to_owned(),
            scope: Scope::Admin,
            only: NamePatterns::all(),
            expires: None,
            proof: Proof::Certificate,
            ..hashed.clone()
        };
        Tokens::new(vec![hashed, certificate])
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(parse(&write(&tokens())), Ok(tokens()));
        assert_eq!(parse(&write(&Tokens::default())), Ok(Tokens::default()));
    }

    #[test]
    fn a_list_is_for_its_owner_only_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let directory = folder.path().join("data");
        assert_eq!(Tokens::load(&directory).expect("there is none"), None);
        let file = TokenFile::lock(&directory).expect("it can be made");
        file.save(&tokens()).expect("it can be written");
        std::fs::write(directory.join(NEW), "half of a li").expect("it can be written");
        file.save(&tokens())
            .expect("what a crash left is in nobody's way");
        assert_eq!(file.load().expect("it can be read"), tokens());
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
        assert!(!directory.join(NEW).exists());
    }

    #[test]
    fn a_link_by_the_name_of_the_lock_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let foreign = folder.path().join("foreign");
        std::fs::write(&foreign, "foreign").expect("it can be written");
        let directory = folder.path().join("data");
        std::fs::create_dir(&directory).expect("it can be made");
        let lock = directory.join(LOCK);
        for link in [std::os::unix::fs::symlink::<&Path, &Path>, std::fs::hard_link] {
            link(&foreign, &lock).expect("it can be made");
            let error = TokenFile::lock(&directory).expect_err("it is no file of its own");
            assert!(matches!(error, TokensError::Io { .. }), "{error}");
            std::fs::remove_file(&lock).expect("it can be removed");
        }
        // One that leads nowhere would make a file there.
        std::os::unix::fs::symlink(folder.path().join("none"), &lock).expect("it can be made");
        TokenFile::lock(&directory).expect_err("it is no file of its own");
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let path = folder.path().join(FILE);
        let list = write(&tokens());
        let comment = "#".repeat(MAX_BYTES as usize - list.len() - 1);
        std::fs::write(&path, format!("{list}{comment}\n")).expect("it can be written");
        let loaded = Tokens::load(folder.path()).expect("it is as long as it may be");
        assert_eq!(loaded, Some(tokens()));
        std::fs::write(&path, format!("{list}{comment}\n\n")).expect("it can be written");
        let error = Tokens::load(folder.path()).expect_err("one byte too many");
        assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    }

    #[test]
    fn what_is_wrong_in_a_list_is_said() {
        let good = write(&tokens());
        for (from, to, expected) in [
            ("format = 1", "format = 2", "reads format 1"),
            (
                "scope = \"work\"",
                "scope = \"everything\"",
                "token \"k3v9x2ab\": \"everything\" is no scope",
            ),
            ("thumbnail*", "thumb nail", "is no pattern"),
            ("sha256 = \"", "sha256 = \"x", "64 hexadecimal digits"),
            ("scope = \"admin\"", "scop = \"admin\"", "unknown field"),
        ] {
            assert!(good.contains(from), "{good}");
            let error = parse(&good.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(expected), "{error}");
        }
    }
}
