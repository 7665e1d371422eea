//! `jobq cert`: certificates for a first set-up of TLS, with a CA of one's own, and when any expire.

mod authority;
mod files;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use jobq_transport::CertificateInfo;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Column, Output, Table, escape};
use crate::times;

use authority::{Authority, Kind, Pair, last_day};
use files::Folder;

/// How long a CA is valid: everybody has to be given the next one.
const CA_VALID: Duration = Duration::from_secs(3_650 * DAY);

/// What every server of this machine is called, beside the names it is given.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Seconds of a day.
const DAY: u64 = 24 * 3_600;

/// What can be made.
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = "\
The CA's key, ca.key, makes certificates that servers and clients trust: keep it
where only you get at it. Whoever connects needs ca.pem, which is no secret.

Examples:
  jobq cert init --host queue.example
  jobq cert client web
  jobq cert server --host queue.example --force && kill -HUP SERVER
  jobq cert show jobq-certs/*.pem")]
pub(crate) enum Command {
    /// Make a CA and a server's certificate.
    #[command(after_long_help = Exit::TABLE)]
    Init(ServerArgs),
    /// Make another certificate for a server, such as when the one before is about to expire.
    #[command(after_long_help = Exit::TABLE)]
    Server(ServerArgs),
    /// Make a client's or worker's certificate, for a server with --tls-client-ca.
    #[command(after_long_help = Exit::TABLE)]
    Client(ClientArgs),
    /// Show whom certificates are for, and when they expire.
    #[command(after_long_help = Exit::TABLE)]
    Show(ShowArgs),
}

/// The flags of `jobq cert init` and `jobq cert server`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Put the files into this directory, which is made if need be
    #[arg(value_name = "DIR", default_value = "./jobq-certs")]
    directory: PathBuf,
    /// A name or address by which clients connect to the server; may be given several times
    ///
    /// localhost, 127.0.0.1 and ::1 are always among them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    host: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// The flags of `jobq cert client`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// The client's name, by which the server knows it: letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// The directory with the CA, into which the certificates go as well
    #[arg(long, value_name = "DIR", default_value = "./jobq-certs")]
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// The flags of `jobq cert show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Files with certificates in PEM
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

/// The flags of those that make something.
#[derive(Debug, clap::Args)]
struct Common {
    /// Make certificates that are valid for so long; the CA's is valid for ten years
    #[arg(long, value_name = "DURATION", value_parser = validity, default_value = "730d")]
    valid: Duration,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init(&args).context("failed to make certificates")?,
        Command::Server(args) => server(&args).context("failed to make the server's certificate")?,
        Command::Client(args) => client(&args).context("failed to make client certificates")?,
        Command::Show(args) => show(&args).context("failed to show certificates")?,
    }
    Ok(Exit::Ok)
}

fn init(args: &ServerArgs) -> anyhow::Result<()> {
    let hosts = hosts(&args.host)?;
    let folder = Folder::make(&args.directory, args.common.force)?;
    folder.expect_none(&["ca.key", "ca.pem", "server.key", "server.pem"])?;
    let (authority, ca) = Authority::new(CA_VALID)?;
    let made = authority.sign(&Kind::Server(&hosts), args.common.valid)?;
    folder.write("ca", &ca)?;
    folder.write("server", &made)?;
    let mut output = Output::new();
    let (at, ca_until, until) = (
        args.directory.display(),
        last_day(CA_VALID),
        last_day(args.common.valid),
    );
    output.line(format_args!("made in {at}:"))?;
    output.line(format_args!(
        "  ca.pem      the CA, valid until {ca_until}: for everybody who connects"
    ))?;
    output.line("  ca.key      its private key: keep it off the server, where nobody else gets at it")?;
    output.line(format_args!(
        "  server.pem  the server's certificate, valid until {until}, for {}",
        hosts.join(", ")
    ))?;
    output.line("  server.key  its private key: for the server only")?;
    output.line("")?;
    say_how_to_start(&mut output, &args.directory, &args.host)?;
    output.finish()
}

/// Commands that work with what was made.
fn say_how_to_start(output: &mut Output, directory: &Path, given: &[String]) -> anyhow::Result<()> {
    let at = directory.display();
    // Whoever is reached by others has to ask for something.
    let (is_shared, listen, host) = match given.first() {
        None => (false, "127.0.0.1", "localhost"),
        Some(host) => (true, "0.0.0.0", host.as_str()),
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let mut shows = String::new();
    if is_shared {
        output.line("Make a token, start a server, and see whether it answers:")?;
        output.line(format_args!(
            "  jobq token create admin --scope admin > {at}/admin.token"
        ))?;
        shows = format!(" --token-file {at}/admin.token");
    } else {
        output.line("Start a server, and see whether it answers:")?;
    }
    output.line(format_args!(
        "  jobq serve --listen tls://{listen}:7420 --tls-cert {at}/server.pem --tls-key {at}/server.key"
    ))?;
    output.line(format_args!(
        "  jobq stats --server tls://{host}:7420 --tls-ca {at}/ca.pem{shows}"
    ))
}

fn server(args: &ServerArgs) -> anyhow::Result<()> {
    let hosts = hosts(&args.host)?;
    let folder = Folder::make(&args.directory, args.common.force)?;
    folder.expect_none(&["server.key", "server.pem"])?;
    let made = authority(&folder)?.sign(&Kind::Server(&hosts), args.common.valid)?;
    folder.write("server", &made)?;
    let mut output = Output::new();
    output.line(format_args!(
        "made server.pem and server.key in {}, valid until {}, for {}",
        args.directory.display(),
        last_day(args.common.valid),
        hosts.join(", ")
    ))?;
    output.line("a server that runs takes them on SIGHUP")?;
    output.finish()
}

fn client(args: &ClientArgs) -> anyhow::Result<()> {
    for name in &args.names {
        check_client(name).map_err(|error| Exit::Usage.because(error))?;
    }
    let folder = Folder::make(&args.dir, args.common.force)?;
    let files: Vec<String> = args
        .names
        .iter()
        .flat_map(|name| [format!("{name}.key"), format!("{name}.pem")])
        .collect();
    folder.expect_none(&files)?;
    let authority = authority(&folder)?;
    let mut output = Output::new();
    let (at, until) = (args.dir.display(), last_day(args.common.valid));
    for name in &args.names {
        let made = authority.sign(&Kind::Client(name), args.common.valid)?;
        folder.write(name, &made)?;
        output.line(format_args!(
            "made {name}.pem and {name}.key in {at}, valid until {until}: give both, and ca.pem, to {name}"
        ))?;
    }
    let name = &args.names[0];
    output.line("")?;
    output.line("The server asks for them with:")?;
    output.line(format_args!("  --tls-client-ca {at}/ca.pem"))?;
    output.line("And they are shown with:")?;
    output.line(format_args!(
        "  --tls-ca {at}/ca.pem --tls-cert {at}/{name}.pem --tls-key {at}/{name}.key"
    ))?;
    output.finish()
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let mut output = Output::new();
    let mut table = Table::new([
        Column::text("FILE", usize::MAX),
        Column::text("NAME", usize::MAX),
        Column::word("EXPIRES"),
    ]);
    let now = SystemTime::now();
    for file in &args.files {
        let found = CertificateInfo::read(file).map_err(|error| Exit::Usage.because(error))?;
        for CertificateInfo { name, expires, .. } in found {
            if args.json {
                output.json(&json!({
                    "file": file.display().to_string(),
                    "name": name,
                    "expires": expires.map(|expires| times::rfc3339(micros(expires))),
                    "valid": expires.map(|expires| expires > now),
                }))?;
                continue;
            }
            table.row([
                escape(&file.display().to_string()).into_owned(),
                escape(name.as_deref().unwrap_or("-")).into_owned(),
                match expires {
                    None => "-".to_owned(),
                    Some(expires) if expires > now => times::local(micros(expires)),
                    Some(expires) => format!("{} (expired)", times::local(micros(expires))),
                },
            ]);
        }
    }
    if !args.json {
        output.table(&table)?;
    }
    output.finish()
}

/// A time in microseconds since 1970.
fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The CA in a directory.
fn authority(folder: &Folder) -> anyhow::Result<Authority> {
    let Pair { cert, key } = folder.read("ca").context(
        "there is no CA that can be used; `jobq cert init` makes one, and with one of another kind its own tools \
         make certificates",
    )?;
    Authority::load(&cert, &key)
}

/// The names of a server: those that were given, and those that each has.
fn hosts(given: &[String]) -> anyhow::Result<Vec<String>> {
    let mut hosts = Vec::new();
    for host in given.iter().map(String::as_str).chain(OWN_NAMES) {
        authority::check_host(host).map_err(|error| Exit::Usage.because(error))?;
        if !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    Ok(hosts)
}

/// A client's name is that of its files too, so it must not be another's.
fn check_client(name: &str) -> anyhow::Result<()> {
    const MOST: usize = 64;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || name.len() > MOST || !name.chars().all(is_plain) {
        return Err(anyhow!(
            "{name:?} is no name for a client; expected 1 to {MOST} letters, digits, '-', '_' and '.', a letter or digit first"
        ));
    }
    if ["ca", "server"].contains(&name) {
        return Err(anyhow!(
            "{name:?} is the name of other files; choose another for the client"
        ));
    }
    Ok(())
}

fn validity(text: &str) -> Result<Duration, String> {
    let valid = times::duration(text)?;
    let range = Duration::from_secs(DAY)..=CA_VALID;
    if range.contains(&valid) {
        Ok(valid)
    } else {
        Err("it has to be from 1d to 3650d, as long as the CA is valid".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_is_that_of_a_file_and_of_nothing_else() {
        for good in ["web", "worker-1.example", "A_b", "7"] {
            assert!(check_client(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "", "ca", "server", "../ca", "a/b", ".hidden", "-f", "a b", "zoë", &long,
        ] {
            assert!(check_client(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_known_by_its_names_and_as_this_machine() {
        let given = [
            "queue.example".to_owned(),
            "10.0.0.1".to_owned(),
            "localhost".to_owned(),
        ];
        let hosts = hosts(&given).expect("they are names");
        assert_eq!(
            hosts,
            ["queue.example", "10.0.0.1", "localhost", "127.0.0.1", "::1"]
        );
        for bad in ["tls://queue.example", "queue.example:7420", "", "a b"] {
            assert!(super::hosts(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn certificates_are_valid_for_a_day_at_least_and_no_longer_than_the_ca() {
        assert_eq!(validity("90d"), Ok(Duration::from_secs(90 * DAY)));
        assert!(validity("1h").is_err() && validity("3651d").is_err());
    }
}
