//! The code in a Markdown page.

/// The text of all fenced blocks of exactly this kind, in their order.
pub fn blocks(page: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(fence), None) => open = Some((fence.trim() == kind, String::new())),
            (Some(_), Some((wanted, text))) => found.extend(wanted.then_some(text)),
            (None, Some((wanted, text))) => open = Some((wanted, text + line + "\n")),
            (None, None) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_kind_are_found_and_others_left_out() {
        let page = "text\n```bash\na\n  b\n```\n```console\nc\n```\n```bash\n```\n```\nd\n```\nbash\n";
        assert_eq!(blocks(page, "bash"), ["a\n  b\n", ""]);
        assert_eq!(blocks(page, "console"), ["c\n"]);
        assert!(blocks(page, "rust").is_empty());
    }
}
