//! What the documents say of flags, exit codes and each other.

use std::collections::{BTreeMap, BTreeSet};

use jobq_tests::markdown::{blocks, prose};

use super::{OPERATIONS, pages, root};
use crate::fixture::program;

/// Whoever sets it has the help texts in the operators' manual written anew.
const BLESS: &str = "JOBQ_BLESS";

/// Folders of the project and of its crates; what begins with one of them in code is a path.
const FOLDERS: [&str; 7] = [
    "benches/",
    "contrib/",
    "crates/",
    "docs/",
    "examples/",
    "fuzz/",
    "tests/",
];

#[tokio::test]
async fn the_help_texts_in_the_operators_manual_are_those_of_the_binary() {
    let mut current = OPERATIONS.to_owned();
    for block in blocks(OPERATIONS) {
        let Some(command) = block.value("help") else {
            continue;
        };
        let help = program().run([command, "-h"]).await.success();
        let fence = format!("```text help:{command}\n");
        let (before, behind) = current.split_once(&fence).expect("the block has this fence");
        let (_, behind) = behind.split_once("```\n").expect("the block ends");
        current = format!("{before}{fence}{}\n```\n{behind}", help.trim_end());
    }
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(root().join("docs/OPERATIONS.md"), current).expect("it can be written");
        return;
    }
    assert!(
        current == OPERATIONS,
        "the flags have changed; {BLESS}=1 cargo test -p jobq-cli --test process documents writes them anew"
    );
}

#[tokio::test]
async fn the_exit_codes_in_the_operators_manual_are_those_of_the_help() {
    let help = program().run(["serve", "--help"]).await.success();
    let (_, table) = help.split_once("Exit codes:\n").expect("the help has a table");
    let codes: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .collect();
    assert!(codes.len() > 5, "the table is there: {table}");
    let rows: BTreeMap<&str, &str> = OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .collect();
    for (code, meaning) in &codes {
        let row = rows
            .get(code)
            .unwrap_or_else(|| panic!("code {code} is not in the manual"));
        assert!(
            row.starts_with(meaning),
            "code {code} is {meaning:?}, and the manual says {row:?}"
        );
    }
    assert_eq!(
        rows.len(),
        codes.len(),
        "the manual has codes that there are not: {rows:?}"
    );
}

#[tokio::test]
async fn every_flag_that_a_document_uses_is_one_of_its_command() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for command in commands().await {
        let mut of_command = BTreeSet::new();
        for help in helps(&command).await {
            of_command.extend(flags(&help));
        }
        known.insert(command, of_command);
    }
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for (command, flag) in used(&text, &known) {
            if !known[&command].contains(&flag) {
                wrong.push(format!("{page}: `jobq {command}` has no {flag}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_variable_that_a_document_names_sets_a_flag() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let pages = pages();
    for command in commands().await {
        let help = program().run([command.as_str(), "--help"]).await.success();
        let (known, prefix) = (flags(&help), format!("JOBQ_{}_", command.to_uppercase()));
        for (page, text) in &pages {
            for rest in text.split(&prefix).skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_');
                let flag = &rest[..end.unwrap_or(rest.len())];
                // With nothing behind it, the prefix stands for all of them.
                seen += usize::from(!flag.is_empty());
                // Those of all commands may begin as a command is called.
                let is_of_all = help.contains(&format!("[env: {prefix}{flag}=]"));
                let flag = format!("--{}", flag.to_lowercase().replace('_', "-"));
                if flag != "--" && !is_of_all && !known.contains(&flag) {
                    wrong.push(format!("{page}: {prefix}… would set {flag}, and there is none"));
                }
            }
        }
    }
    assert!(seen > 3, "there are such variables");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_link_leads_to_a_page_and_to_a_heading_on_it() {
    let pages = pages().into_iter().filter(|(page, _)| page.ends_with(".md"));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages {
        let here = root().join(&page);
        for target in prose(&text).split("](").skip(1) {
            let (target, _) = target.split_once(')').expect("a link ends");
            if target.contains("://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = match path {
                "" => here.clone(),
                path => here.with_file_name(path),
            };
            let leads = match heading {
                "" => there.exists(),
                heading => {
                    std::fs::read_to_string(there).is_ok_and(|there| anchors(&there).contains(heading))
                }
            };
            seen += 1;
            if !leads {
                wrong.push(format!("{page} links to {target}, which is not there"));
            }
        }
    }
    assert!(seen > 50, "there are links: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for path in paths(&prose(&text)) {
            seen += 1;
            let from_here = root().join(&page).with_file_name(path);
            if !root().join(path).exists() && !from_here.exists() {
                wrong.push(format!("{page} names {path}, which is not there"));
            }
        }
    }
    assert!(seen > 20, "there are paths: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a page's headings are called in links, in GitHub's manner.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The paths from the root, or from a page's folder, that stand in code. What stands for several, by a `…` or a `*`,
/// is none.
fn paths(prose: &str) -> Vec<&str> {
    let code = prose.split('`').skip(1).step_by(2);
    let is_path = |code: &&str| {
        FOLDERS.iter().any(|folder| code.starts_with(folder))
            && !code.contains(|c: char| c.is_whitespace() || "…*{<".contains(c))
    };
    code.filter(is_path).collect()
}

/// The help of a command, and those of its own commands.
async fn helps(command: &str) -> Vec<String> {
    let mut helps = vec![program().run([command, "--help"]).await.success()];
    for further in listed(&helps[0]) {
        helps.push(program().run([command, &further, "--help"]).await.success());
    }
    helps
}

/// The names of all commands.
async fn commands() -> Vec<String> {
    let commands = listed(&program().run(["--help"]).await.success());
    assert!(!commands.is_empty(), "the help lists the commands");
    commands
}

/// The commands that a help text lists; none if it is that of a command without any.
fn listed(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The flags that a help text explains.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '=', '[']));
    words
        .filter(|word| word.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

/// Each flag that stands behind `jobq COMMAND` in code, with the command. What stands behind `--` is another program's.
fn used(text: &str, commands: &BTreeMap<String, BTreeSet<String>>) -> Vec<(String, String)> {
    let text = text.replace("\\\n", " ").replace(super::CARGO_RUN, "jobq");
    let mut used = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line
            .split([' ', '`', '"', '(', ')', ',', ';', '|', '[', ']'])
            .collect();
        let mut command: Option<&str> = None;
        for pair in words.windows(2) {
            if pair[0].ends_with("jobq") && commands.contains_key(pair[1]) {
                command = Some(pair[1]);
            } else if pair[1] == "--" || pair[1] == "&&" {
                command = None;
            }
            let flag = pair[1].split('=').next().unwrap_or_default();
            let is_flag = flag.starts_with("--") && flag.len() > 2;
            if let Some(command) = command.filter(|_| is_flag) {
                used.push((
                    command.to_owned(),
                    flag.trim_end_matches(['.', ':', '\'']).to_owned(),
                ));
            }
        }
    }
    used
}

#[test]
fn flags_are_found_in_commands_and_in_help_texts() {
    let help = "Options:\n  -n, --max-active <N>\n          Have at most --so many\n      --json\n";
    let expected: BTreeSet<String> = ["-n", "--max-active", "--json"].map(str::to_owned).into();
    assert_eq!(flags(help), expected);
    let commands = BTreeMap::from([
        ("serve".to_owned(), BTreeSet::new()),
        ("work".to_owned(), BTreeSet::new()),
    ]);
    let page = "use `jobq serve --data x`, or\njobq work a --result=json \\\n    -j 4 --drain 1s -- convert --strip\n";
    let found = used(page, &commands);
    let found: Vec<(&str, &str)> = found.iter().map(|(c, f)| (c.as_str(), f.as_str())).collect();
    assert_eq!(
        found,
        [("serve", "--data"), ("work", "--result"), ("work", "--drain")]
    );
}

#[test]
fn headings_and_paths_are_found() {
    let page = "# A `job`'s life\n```sh\n# no\n```\n## 1. C-D_e\n";
    let expected: BTreeSet<String> = ["a-jobs-life", "1-c-d_e"].map(str::to_owned).into();
    assert_eq!(anchors(page), expected);
    let prose = "in `docs/A.md`, `tests/src/` and `crates/*`, by `docs/of no one`, and `x/docs/b`";
    assert_eq!(paths(prose), ["docs/A.md", "tests/src/"]);
}
