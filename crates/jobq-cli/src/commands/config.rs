//! `jobq config`: what is set, and by what.

use serde_json::{Value, json};

use crate::cli::Global;
use crate::exit::Exit;
use crate::output::{self, Column, Output, Table, note};
use crate::settings::{Origin, Setting, Settings, SettingsError, unknown_variables};
use crate::usage;

/// The flags of `jobq config`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each setting is a flag, written COMMAND.FLAG where it is not one of all
commands. It comes from, the strongest first: a flag, a variable, a line of the
configuration file, the default. All settings are checked, not only those of
one command, and also those that count for less than others. Variables that
begin with JOBQ_ and set nothing are told on standard error. A token is never
shown. What says which jobs one call is about is no setting: --uuid and --once,
and the filters of list, cancel and retry.

The configuration file is the one of --config or JOBQ_CONFIG, else jobq.toml in
the working directory, else jobq/jobq.toml in $XDG_CONFIG_HOME (~/.config where
that is not set): one of them, never two. An empty JOBQ_CONFIG means none. The
one in the working directory is used only if it and the directory belong to this
user or root and nobody else may write to them, since it says who is shown the
token; --config names any. It is TOML: flags of all commands at the top, those of
a command in a table of its name. Paths in it are as on the command line, from
the working directory.

  server = \"unix:///run/jobq.sock\"

  [serve]
  listen = [\"unix:///run/jobq.sock\", \"tcp://127.0.0.1:7420\"]
  data = \"/var/lib/jobq\"
  max-active = 32
  cap = { thumbnail = 4 }

  [list]
  limit = 1000

Examples:
  jobq config
  jobq config --all serve
  jobq config --json | jq -r 'select(.from == \"file\") | .setting'")]
pub(crate) struct Args {
    /// Only the settings of this command, and those of all commands
    command: Option<String>,
    /// Show what is not set too
    #[arg(long)]
    all: bool,
    /// Write JSON, one setting a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, global: &Global, settings: &Settings) -> anyhow::Result<Exit> {
    let mut settings = match settings.all() {
        Ok(settings) => settings,
        Err(SettingsError::Arguments { layer, error }) => return Ok(usage::print(*error, layer)),
        Err(error) => return Err(Exit::Usage.because(error)),
    };
    settings.extend(token(global));
    unknown_variables().iter().for_each(|text| note(text));
    if let Some(name) = &args.command {
        let prefix = format!("{name}.");
        if !settings.iter().any(|setting| setting.key.starts_with(&prefix)) {
            return Err(Exit::Usage.because(anyhow::anyhow!(
                "failed to show the configuration: there is no command {name:?} with settings; see `jobq --help`"
            )));
        }
        settings.retain(|setting| !setting.key.contains('.') || setting.key.starts_with(&prefix));
    }
    if !args.all {
        settings.retain(|setting| setting.origin != Origin::Unset);
    }
    let mut output = Output::new();
    if args.json {
        for setting in &settings {
            output.json(&object(setting))?;
        }
    } else {
        let mut table = Table::new([
            Column::word("SETTING"),
            Column::text("VALUE", usize::MAX),
            Column::word("FROM"),
        ]);
        for setting in &settings {
            table.row([
                setting.key.clone(),
                setting.values.join(", "),
                output::escape(&from(&setting.origin)).into_owned(),
            ]);
        }
        output.table(&table)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}

/// That there is a token, and from where; the token itself is for nobody's eyes.
fn token(global: &Global) -> Option<Setting> {
    global.has_token_variable().then(|| Setting {
        key: "token".to_owned(),
        values: vec!["(not shown)".to_owned()],
        origin: Origin::Variable("JOBQ_TOKEN".to_owned()),
    })
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Flag => "flag".to_owned(),
        Origin::Variable(name) => name.clone(),
        Origin::File(path, line) => format!("{}:{line}", path.display()),
        Origin::Default => "default".to_owned(),
        Origin::Unset => "not set".to_owned(),
    }
}

fn object(setting: &Setting) -> Value {
    let value = match setting.values.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let mut object = json!({ "setting": setting.key, "value": value });
    match &setting.origin {
        Origin::Flag => object["from"] = "flag".into(),
        Origin::Variable(name) => {
            object["from"] = "variable".into();
            object["variable"] = name.as_str().into();
        }
        Origin::File(path, line) => {
            object["from"] = "file".into();
            object["file"] = path.display().to_string().into();
            object["line"] = (*line).into();
        }
        Origin::Default => object["from"] = "default".into(),
        Origin::Unset => object["from"] = Value::Null,
    }
    object
}
