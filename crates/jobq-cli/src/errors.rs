//! Errors as one line for people.

use std::error::Error;
use std::fmt::Write;

/// Most causes that are told, so that a chain that bites its tail has an end.
const MAX_CAUSES: usize = 16;

/// An error and what caused it: "failed to list jobs: no server answers at …: connection refused". A cause that the
/// text before it quotes already is not repeated.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(error) = cause else { break };
        let told = error.to_string();
        if !text.contains(&told) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no server answers: {source}")]
    struct Quotes {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_that_is_quoted_already_is_told_once() {
        let source = std::io::Error::other("refused");
        let error = anyhow::Error::new(Quotes { source }).context("failed to ask");
        assert_eq!(
            describe(error.as_ref()),
            "failed to ask: no server answers: refused"
        );
        let error = Err::<(), _>(std::io::Error::other("refused"))
            .context("failed to ask")
            .expect_err("it is one");
        assert_eq!(describe(error.as_ref()), "failed to ask: refused");
    }
}
