//! The code in a Markdown page.

/// A fenced block. What stands behind the opening fence is its language and words about it, e.g.
/// `sh file:thumbnail.sh` or `bash needs:python3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The first word; empty if there is none.
    pub language: String,
    /// The other words.
    pub words: Vec<String>,
    /// What is in it, each line with its break.
    pub text: String,
}

impl Block {
    /// What a word of the form `key:value` says.
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut pairs = self.words.iter().filter_map(|word| word.split_once(':'));
        pairs.find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// Whether it has this word.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }
}

/// All fenced blocks, in their order.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some(opened(info)),
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    found
}

/// The page without its fenced blocks.
pub fn prose(page: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

fn opened(info: &str) -> Block {
    let mut words = info.split_whitespace().map(str::to_owned);
    Block {
        language: words.next().unwrap_or_default(),
        words: words.collect(),
        text: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n```bash\na\n  b\n```\nmore\n```sh file:c.sh tested\nc\n```\n```\n```\nbash\n";

    #[test]
    fn blocks_are_found_with_what_stands_behind_their_fences() {
        let found = blocks(PAGE);
        let texts: Vec<&str> = found.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(texts, ["a\n  b\n", "c\n", ""]);
        assert_eq!(
            (found[0].language.as_str(), found[2].language.as_str()),
            ("bash", "")
        );
        assert_eq!(
            (found[1].value("file"), found[1].value("needs")),
            (Some("c.sh"), None)
        );
        assert!(found[1].has("tested") && !found[0].has("tested"));
    }

    #[test]
    fn prose_is_what_is_not_in_a_block() {
        assert_eq!(prose(PAGE), "text\nmore\nbash\n");
    }
}
