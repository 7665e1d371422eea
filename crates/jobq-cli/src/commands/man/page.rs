//! One manual page, in the sections that such pages have.

use std::io;

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, roman};

/// What begins the examples in a command's long help.
const EXAMPLES: &str = "Examples:";

/// What begins the exit codes.
const EXIT_CODES: &str = "Exit codes:";

/// Renders the page of a command that is built.
///
/// # Errors
/// The writer's.
pub(super) fn render(command: &Command, version: &str, writer: &mut impl io::Write) -> io::Result<()> {
    let usage = usage(command);
    let man = Man::new(command.clone().override_usage(usage));
    let help = command.get_after_long_help().map(ToString::to_string);
    let help = Help::of(help.as_deref().unwrap_or_default());
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    // Without a date, which roff's writer would leave out with its quotes.
    writeln!(writer, ".TH {name} 1 \"\" \"jobq {version}\" \"jobq manual\"")?;
    // Names of flags and fields are not to be hyphenated, and words not to be stretched over a line.
    let mut layout = Roff::new();
    layout.control("nh", []).control("ad", ["l"]);
    layout.to_writer(writer)?;
    man.render_name_section(writer)?;
    man.render_synopsis_section(writer)?;
    man.render_description_section(writer)?;
    help.description.write(None, writer)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(writer)?;
    }
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(writer)?;
    }
    help.examples.write(Some("EXAMPLES"), writer)?;
    help.exit_codes.write(Some("EXIT STATUS"), writer)
}

/// How a command is called, as its help says.
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage:").trim().to_owned()
}

/// A command's long help, taken apart.
#[derive(Debug, Default)]
struct Help<'a> {
    description: Text<'a>,
    examples: Text<'a>,
    exit_codes: Text<'a>,
}

/// Lines, of which those that are indented stay as they are, and the others are filled to paragraphs.
#[derive(Debug, Default)]
struct Text<'a>(Vec<&'a str>);

impl<'a> Help<'a> {
    fn of(help: &'a str) -> Self {
        let mut parts = Self::default();
        let mut part = &mut parts.description;
        for line in help.lines() {
            match line {
                EXAMPLES => part = &mut parts.examples,
                EXIT_CODES => part = &mut parts.exit_codes,
                line => part.0.push(line),
            }
        }
        parts
    }
}

impl Text<'_> {
    fn write(&self, heading: Option<&str>, writer: &mut impl io::Write) -> io::Result<()> {
        if self.0.iter().all(|line| line.is_empty()) {
            return Ok(());
        }
        let mut roff = Roff::new();
        if let Some(heading) = heading {
            roff.control("SH", [heading]);
        } else {
            roff.control("PP", []);
        }
        let mut verbatim = false;
        let mut lines = self.0.iter().peekable();
        while let Some(line) = lines.next() {
            // An empty line belongs to what stands around it.
            let indented = match lines.peek() {
                Some(next) if line.is_empty() => verbatim && next.starts_with(' '),
                _ => line.starts_with(' '),
            };
            if indented != verbatim {
                roff.control(if indented { "nf" } else { "fi" }, []);
                verbatim = indented;
            }
            match (*line, verbatim) {
                ("", false) => roff.control("PP", []),
                // Empty, but no space of its own.
                ("", true) => roff.text([roman(" ")]),
                (line, _) => roff.text([roman(line)]),
            };
        }
        if verbatim {
            roff.control("fi", []);
        }
        roff.to_writer(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(help: &'static str) -> String {
        let mut command = Command::new("jobq").subcommand(
            Command::new("list")
                .about("List jobs")
                .arg(clap::Arg::new("name").value_name("NAME"))
                .after_long_help(help),
        );
        command.build();
        let command = command.find_subcommand("list").expect("it is there");
        let mut page = Vec::new();
        render(command, "1.2.3", &mut page).expect("memory takes it");
        String::from_utf8(page).expect("it is text")
    }

    #[test]
    fn a_page_has_the_sections_that_pages_have_and_names_its_version() {
        let page = page("It lists.\n\nExamples:\n  jobq list\n\nExit codes:\n    0  done");
        let sections: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".SH "))
            .collect();
        assert_eq!(
            sections,
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXAMPLES",
                "\"EXIT STATUS\""
            ]
        );
        let title = page
            .lines()
            .find(|line| line.starts_with(".TH"))
            .unwrap_or_default();
        assert!(title.contains("\"jobq 1.2.3\""), "{title}");
        assert!(
            page.contains("\\fBjobq list\\fR [OPTIONS] [NAME]") || page.contains("\\fBjobq list\\fR [NAME]"),
            "{page}"
        );
        assert!(page.contains(".nh\n"), "{page}");
    }

    #[test]
    fn examples_stay_as_they_are_and_paragraphs_stay_apart() {
        let page = page(
            "First\nparagraph.\n\nSecond:\n  a = 1\n\n  [b]\nand on.\n\nExamples:\n  jobq list |\n    jq '{a: 1}'",
        );
        assert!(page.contains("First\nparagraph.\n.PP\nSecond:\n.nf\n"), "{page}");
        assert!(page.contains(".fi\nand on.\n"), "{page}");
        let (_, examples) = page.split_once(".SH EXAMPLES\n").expect("they are there");
        let lines: Vec<&str> = examples.lines().collect();
        assert_eq!((lines[0], lines[3]), (".nf", ".fi"), "{examples}");
        assert!(lines[2].contains("    jq "), "{examples}");
    }
}
