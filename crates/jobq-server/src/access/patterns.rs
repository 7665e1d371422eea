//! Which job names somebody may touch.

use std::fmt;
use std::sync::Arc;

use jobq_proto::limits::MAX_NAME;

/// Most patterns of one entry.
const MAX_PATTERNS: usize = 64;

/// Job names, by patterns in which `*` stands for any characters, or none. Without a pattern, all names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NamePatterns {
    /// None for all names.
    patterns: Option<Arc<[String]>>,
}

/// Why something is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It has other characters than names and `*`, or none, or too many.
    #[error("{0:?} is no pattern of job names: 1 to {MAX_NAME} characters of A-Z a-z 0-9 _ . - and *")]
    BadPattern(String),
    /// There are too many.
    #[error("{0} patterns are given; at most {MAX_PATTERNS} can be")]
    TooMany(usize),
}

impl NamePatterns {
    /// All names.
    pub fn all() -> Self {
        Self::default()
    }

    /// The names that one of these patterns matches; all names if there is no pattern.
    ///
    /// # Errors
    /// One of them is no pattern, or there are too many.
    pub fn new(patterns: Vec<String>) -> Result<Self, PatternError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(PatternError::TooMany(patterns.len()));
        }
        if let Some(bad) = patterns.iter().find(|pattern| !is_pattern(pattern)) {
            return Err(PatternError::BadPattern(bad.clone()));
        }
        let patterns = (!patterns.is_empty()).then(|| patterns.into());
        Ok(Self { patterns })
    }

    /// Whether they are all names there can be, without a look at any.
    pub fn are_all(&self) -> bool {
        self.patterns.is_none()
    }

    /// Whether a name is one of them.
    pub fn match_name(&self, name: &str) -> bool {
        self.patterns
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, name)))
    }

    /// The patterns; none for all names.
    pub fn patterns(&self) -> &[String] {
        self.patterns.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for NamePatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.patterns()).finish()
    }
}

fn is_pattern(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_good)
}

/// Whether a pattern matches the whole of a name. Only the last `*` that was met can have to take more than it has, so
/// that it takes the product of both lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and up to where in the name it reaches.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((behind, reach)) = star {
            p = behind;
            n = reach + 1;
            star = Some((behind, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(patterns: &[&str]) -> NamePatterns {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        NamePatterns::new(patterns).expect("they are patterns")
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, name, expected) in [
            ("thumbnail", "thumbnail", true),
            ("thumbnail", "thumbnails", false),
            ("thumbnail*", "thumbnail", true),
            ("thumbnail*", "thumbnail.small", true),
            ("thumbnail*", "a.thumbnail", false),
            ("*.send", "mail.send", true),
            ("*.send", "mail.sender", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("*", "anything", true),
            ("a.c", "abc", false),
            ("A", "a", false),
        ] {
            assert_eq!(of(&[pattern]).match_name(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_has_to_match_one_of_several_patterns_and_anything_matches_none() {
        let patterns = of(&["a*", "b"]);
        assert!(patterns.match_name("ab") && patterns.match_name("b") && !patterns.match_name("c"));
        assert!(NamePatterns::all().are_all() && NamePatterns::all().match_name("c"));
        assert!(!patterns.are_all() && !of(&["*"]).are_all());
    }

    #[test]
    fn what_no_name_could_match_is_no_pattern() {
        for bad in ["", "a b", "a?", "ä", "[a]", &"a".repeat(MAX_NAME + 1)] {
            let made = NamePatterns::new(vec![bad.to_owned()]);
            assert_eq!(made, Err(PatternError::BadPattern(bad.to_owned())));
        }
        let many = vec!["a".to_owned(); MAX_PATTERNS + 1];
        assert_eq!(
            NamePatterns::new(many),
            Err(PatternError::TooMany(MAX_PATTERNS + 1))
        );
    }

    /// The same, as one would say it.
    fn plainly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| plainly(rest, &name[taken..])),
            Some((byte, rest)) => name.first() == Some(byte) && plainly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_it_says(pattern in "[ab*]{1,8}", name in "[ab]{1,10}") {
            prop_assert_eq!(matches(&pattern, &name), plainly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
