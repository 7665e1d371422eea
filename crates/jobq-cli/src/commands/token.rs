//! `jobq token`: who gets into a server, and what each may do there.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use jobq_server::access::{ChangeError, NamePatterns, Proof, Scope, Token, TokenFile, Tokens, TokensError};
use jobq_server::time::Wall;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Column, Output, Table, escape};
use crate::times;

/// A second, in the microseconds that times are counted in.
const SECOND: i64 = 1_000_000;

/// What can be done.
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = "\
The list of tokens is the file `tokens` in the server's data directory. As soon as
there is one, nobody gets in without a token of it, the shared token of JOBQ_TOKEN,
or a client certificate that has an entry (--cert). A server that runs reads it again on SIGHUP
(`systemctl reload jobq`): connections go on, save for those of revoked tokens.

Scopes:
  submit  submit jobs, look at them, wait for them, cancel and retry them
  work    take and settle jobs, look at jobs
  admin   everything

Examples:
  jobq token create web --scope submit > web.token
  jobq token create thumbnails --scope work --only 'thumbnail*' --expires 90d
  jobq token create worker-1.example --scope work --cert
  jobq token list
  jobq token revoke web && kill -HUP SERVER")]
pub(crate) enum Command {
    /// Make a token, and print it this once
    ///
    /// Two tokens of one name can be valid at a time, so that one can take the other's place: make the second, give it
    /// to whoever uses the first, and revoke the first by its id.
    #[command(after_long_help = Exit::TABLE)]
    Create(CreateArgs),
    /// List the tokens there are, without the tokens themselves
    #[command(after_long_help = Exit::TABLE)]
    List(ListArgs),
    /// Revoke a token by its id, or all of a name
    #[command(after_long_help = Exit::TABLE)]
    Revoke(RevokeArgs),
}

/// The flags of `jobq token create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Who it is for. Sessions of workers belong to this name
    #[arg(value_name = "NAME")]
    name: String,
    /// What it allows: submit, work or admin
    #[arg(long, value_name = "SCOPE")]
    scope: Scope,
    /// Only jobs of names like this, where * stands for any characters; may be given several times. Jobs of other
    /// names do not exist for the token
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// Let it count for so long; for ever if it is left out
    #[arg(long, value_name = "DURATION", value_parser = times::positive_duration)]
    expires: Option<Duration>,
    /// Make no token: let a client certificate of this name do so much
    #[arg(long)]
    cert: bool,
    #[command(flatten)]
    directory: Directory,
}

/// The flags of `jobq token list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    directory: Directory,
}

/// The flags of `jobq token revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The token's id, or a name all of whose tokens are meant
    #[arg(value_name = "NAME|ID")]
    token: String,
    #[command(flatten)]
    directory: Directory,
}

/// Which server's tokens.
#[derive(Debug, clap::Args)]
struct Directory {
    /// The server's data directory
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./jobq-data",
        env = "JOBQ_SERVE_DATA"
    )]
    data: PathBuf,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => create(args).context("failed to make a token")?,
        Command::List(args) => list(&args).context("failed to list the tokens")?,
        Command::Revoke(args) => revoke(&args).context("failed to revoke a token")?,
    }
    Ok(Exit::Ok)
}

fn create(args: CreateArgs) -> anyhow::Result<()> {
    let usage = |error: anyhow::Error| Exit::Usage.because(error);
    let only = NamePatterns::new(args.only).map_err(|error| usage(error.into()))?;
    let now = now();
    // In whole seconds, as the list has it.
    let expires = args
        .expires
        .map(|length| Wall((now.plus(length).0 / SECOND + 1) * SECOND));
    let file = TokenFile::lock(&args.directory.data).map_err(unusable)?;
    let mut tokens = file.load().map_err(unusable)?;
    let is_first = tokens.entries().is_empty();
    let (token, secret) = if args.cert {
        let token = Token::for_certificate(args.name, args.scope, only, now, expires);
        (token.context("the system gives no random bytes")?, None)
    } else {
        let made = Token::generate(args.name, args.scope, only, now, expires);
        let (token, secret) = made.context("the system gives no random bytes")?;
        (token, Some(secret))
    };
    let name = escape(&token.name).into_owned();
    let id = tokens.add(token, now).map_err(refused)?;
    file.save(&tokens).map_err(unusable)?;
    let what = if args.cert {
        "an entry for certificates"
    } else {
        "a token"
    };
    say(&format!(
        "made {what} with the id {id} for {name}; a server that runs counts it after SIGHUP"
    ));
    if is_first {
        say(
            "from now on, nobody gets in without an entry of the list or the shared token; nor do client certificates",
        );
    }
    let Some(secret) = secret else { return Ok(()) };
    say("the token is written to standard output, and shown this once");
    let mut output = Output::new();
    output.line(secret.reveal())?;
    output.finish()
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let found = Tokens::load(&args.directory.data).map_err(unusable)?;
    if found.is_none() {
        let shown = args.directory.data.display();
        say(&format!(
            "there is no list of tokens in {shown}: whoever reaches the server gets in, unless it is told otherwise"
        ));
    }
    let tokens = found.unwrap_or_default();
    let now = now();
    let mut output = Output::new();
    if args.json {
        for token in tokens.entries() {
            output.json(&json!({
                "id": token.id,
                "name": token.name,
                "kind": kind(token),
                "scope": token.scope.as_str(),
                "only": token.only.patterns(),
                "created": times::rfc3339(token.created.0),
                "expires": token.expires.map(|expires| times::rfc3339(expires.0)),
                "valid": token.is_valid(now),
            }))?;
        }
        return output.finish();
    }
    let mut table = Table::new([
        Column::word("ID"),
        Column::text("NAME", usize::MAX),
        Column::word("KIND"),
        Column::word("SCOPE"),
        Column::text("ONLY", usize::MAX),
        Column::word("CREATED"),
        Column::word("EXPIRES"),
    ]);
    for token in tokens.entries() {
        table.row([
            token.id.clone(),
            escape(&token.name).into_owned(),
            kind(token).to_owned(),
            token.scope.to_string(),
            match token.only.patterns() {
                [] => "all names".to_owned(),
                patterns => patterns.join(" "),
            },
            times::local(token.created.0),
            match token.expires {
                None => "never".to_owned(),
                Some(expires) if token.is_valid(now) => times::local(expires.0),
                Some(expires) => format!("{} (expired)", times::local(expires.0)),
            },
        ]);
    }
    output.table(&table)?;
    output.finish()
}

fn kind(token: &Token) -> &'static str {
    match token.proof {
        Proof::Token(_) => "token",
        Proof::Certificate => "certificate",
    }
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let file = TokenFile::lock(&args.directory.data).map_err(unusable)?;
    let mut tokens = file.load().map_err(unusable)?;
    let revoked = tokens.revoke(&args.token).map_err(refused)?;
    file.save(&tokens).map_err(unusable)?;
    let mut output = Output::optional();
    for token in &revoked {
        output.line(format_args!("revoked {} of {}", token.id, escape(&token.name)))?;
    }
    output.finish()?;
    say("a server that runs goes by it after SIGHUP");
    if tokens.entries().is_empty() {
        say(
            "the list is empty now, and keeps everybody out who has no other way in; delete the file `tokens` and start the server anew to be without",
        );
    }
    Ok(())
}

/// The calendar, as the server reads it.
fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(0).plus(since)
}

/// Says something beside the output, which may be on its way into a file.
fn say(text: &str) {
    // There is nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "jobq: {text}");
}

fn refused(error: ChangeError) -> anyhow::Error {
    let exit = match error {
        ChangeError::BadName(_) => Exit::Usage,
        ChangeError::Unknown(_) => Exit::Partial,
        _ => Exit::Failed,
    };
    exit.because(error)
}

fn unusable(error: TokensError) -> anyhow::Error {
    match error {
        TokensError::Io { .. } => {
            anyhow!("{error}; give the directory that the server has as --data, as its user")
        }
        error => error.into(),
    }
}
