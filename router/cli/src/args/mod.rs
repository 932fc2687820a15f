//! The command line. Scripts use it, so a flag keeps its name and meaning.

pub(crate) mod alerts;
pub(crate) mod books;
pub(crate) mod care;
pub(crate) mod gpu;
mod measuring;
mod models;
pub(crate) mod people;
pub(crate) mod plans;
pub(crate) mod system;
pub(crate) mod update;
pub(crate) mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::tz::TimeZone;

pub(crate) use self::care::Downgrade;
pub(crate) use self::measuring::{Bench, Tune};
pub(crate) use self::models::{Models, ModelsFit, ModelsImport, ModelsPull, ModelsScrub};
use crate::failure::Exit;
use crate::place::parse_time_zone;
pub(crate) use update::Health;

/// A private AI box: a local model behind an OpenAI-compatible API, with keys, quotas and exact accounting.
#[derive(Debug, Parser)]
#[command(name = "allerac", version, about, after_help = top_help(), disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command may be told.
#[derive(Debug, ClapArgs)]
#[command(next_display_order = 900)]
pub(crate) struct Place {
    /// Where the box keeps its data [default: $XDG_DATA_HOME/allerac or ~/.local/share/allerac]
    #[arg(long, global = true, env = "ALLERAC_DATA_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The time zone of days and months [default: what the server was last told, else the system's]
    #[arg(long, global = true, env = "ALLERAC_TIME_ZONE", hide_env_values = true, value_name = "TZ",
        value_parser = parse_time_zone)]
    pub(crate) time_zone: Option<TimeZone>,
    /// Where the ledger is, if not in the data directory: postgres://user:password@host/database. Several servers may
    /// share it. Better in the environment, where nobody else sees it
    #[arg(long, global = true, env = "ALLERAC_DATABASE", hide_env_values = true, value_name = "ADDRESS")]
    pub(crate) database: Option<String>,
    /// The authorities that the database's certificate is checked by (PEM) [default: those of the web]
    #[arg(long, global = true, env = "ALLERAC_DATABASE_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) database_ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the page and the API
    Serve(Serve),
    /// Create, list and revoke keys
    #[command(subcommand)]
    Keys(Keys),
    /// List, add, change and remove users
    #[command(subcommand)]
    Users(people::Users),
    /// List, make and change teams, whose members share an account
    #[command(subcommand)]
    Teams(people::Teams),
    /// Invite people by links
    #[command(subcommand)]
    Invitations(people::Invitations),
    /// List, make, change and remove plans
    #[command(subcommand)]
    Plans(plans::Plans),
    /// Show who used how many tokens
    Usage(Usage),
    /// Check the ledger
    #[command(subcommand)]
    Ledger(books::Ledger),
    /// See what administrators did, and check that nothing of it was changed
    #[command(subcommand)]
    Audit(books::Audit),
    /// See who was told of what, and try it out
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    /// Make, list, check and restore backups
    #[command(subcommand)]
    Backup(care::Backup),
    /// Watch what the box is doing
    Top(Top),
    /// List, fetch, import, check and remove models
    #[command(subcommand)]
    Models(Models),
    /// See the graphics processor, take models off it to unplug it, use it again
    Gpu(gpu::Gpu),
    /// Measure how this machine computes fastest, and do so from then on
    Tune(Tune),
    /// Measure how fast a model reads and answers, and compare with what was measured before
    Bench(Bench),
    /// Check everything the box needs, and say what to do about what is wrong
    Doctor(Doctor),
    /// Show where the box is reached, for its own screen
    Console(Console),
    /// Ask the server for a token, as a client would
    Health(Health),
    /// Change a box of the image to a newer version
    #[command(subcommand)]
    Update(update::Update),
    /// Take back what a newer version of allerac made of the data, so that this one can use them
    Downgrade(Downgrade),
    /// Restart, reset or set back a box of the image, or read its log
    #[command(subcommand)]
    System(system::System),
    /// Print completions for a shell
    Completions(Completions),
}

/// Serves until it gets SIGINT or SIGTERM, then finishes the requests in flight (ten seconds at most).
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac serve
  allerac serve --listen 0.0.0.0:8080        # for the whole network, announced as allerac.local
  allerac serve --listen 0.0.0.0:80 --listen-tls 0.0.0.0:443
  allerac serve --config /etc/allerac.toml --log-format json
  RUST_LOG=debug allerac serve

The configuration file may set listen, name, profile, time_zone, [tls], [mdns], [engine] and [[upstream]]; flags win over it.")]
pub(crate) struct Serve {
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The address to serve HTTPS on, besides; port 0 takes a free one [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_tls: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How log lines are written to stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// The file in which a box of the image says which version of the system runs; /readyz tells it
    #[arg(long, value_name = "FILE")]
    pub(crate) system_status: Option<PathBuf>,
    /// Where the steward of a box of the image listens, which restarts, updates and resets the box for its owner
    #[arg(long, value_name = "SOCKET")]
    pub(crate) steward: Option<PathBuf>,
}

/// What decides how engines run.
#[derive(Debug, ClapArgs)]
pub(crate) struct Setup {
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The hardware profile: lite, home, pro or generic [default: the one that fits this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac keys create --user anna --name laptop
  allerac keys list
  allerac keys revoke k3x7q2m9p4ab")]
pub(crate) enum Keys {
    /// Create a key and print it, and nothing else, on stdout; works while the server runs
    Create(KeysCreate),
    /// List all keys
    List(Listing),
    /// Change the plan of a key
    Set(plans::KeysSet),
    /// Give a key another secret and print it; the one before opens for a while
    Rotate(people::KeysRotate),
    /// Refuse a key from now on
    Revoke(KeysRevoke),
}

/// A new name gets a user of that name. A key is shown this once; only a hash is kept.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac keys create --user anna
  allerac keys create --user kid --plan starter
  allerac keys create --user anna --name ide --plan pro --allow-upstream office-gpu
  allerac keys create --user anna --scope inference --model 'smol*' --hours 'mon-fri 08:00-18:00' --expires 2027-01-01
  export OPENAI_API_KEY=$(allerac keys create --user me)

`allerac plans list` shows the plans. A new user gets the plan (default: personal);
for a user who exists, it limits this key in addition.")]
pub(crate) struct KeysCreate {
    /// Whose key it is
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// What the key is for
    #[arg(long, value_name = "LABEL", default_value = "")]
    pub(crate) name: String,
    /// The plan
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
    /// Let requests with this key leave the box for this upstream, or for `all`; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_upstream: Vec<String>,
    #[command(flatten)]
    pub(crate) bounds: people::Bounds,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac keys revoke k3x7q2m9p4ab")]
pub(crate) struct KeysRevoke {
    /// The key's public id, as `allerac keys list` shows it
    pub(crate) id: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac keys list
  allerac keys list --json | jq -r '.[].id'")]
pub(crate) struct Listing {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Sums the requests and tokens that were settled.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  allerac usage
  allerac usage --by month,user
  allerac usage export --from 2026-11-01 --output november.csv
  allerac usage upstreams
  allerac usage owning
  allerac usage --by user --month 2026-11
  allerac usage --by key,model --json"
)]
pub(crate) struct Usage {
    /// What to sum by
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["day", "key", "model"])]
    pub(crate) by: Vec<Dimension>,
    /// One month only
    #[arg(long, value_name = "YYYY-MM", value_parser = parse_month)]
    pub(crate) month: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<usage::UsageCommand>,
}

/// A column that usage is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dimension {
    Month,
    Day,
    User,
    Key,
    Model,
}

/// Shows, second by second, what each model is doing: requests, tokens, how long people wait, what is known before.
/// Rates are of the last five seconds; percentiles and shares of the last minute, or of all the time while nothing
/// happened in it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac top
  allerac top --once
  allerac top --once --json | jq '.models[].output_tokens_per_second'
  ALLERAC_KEY=sk-allerac-... allerac top --url http://allerac.local:8080

On the box itself no key is needed, for whoever may read its data directory; elsewhere one of its owner.
q or Ctrl-C ends it.")]
pub(crate) struct Top {
    /// The server to watch
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    pub(crate) url: reqwest::Url,
    /// A key of the box's owner; better in the environment, where nobody else sees it
    #[arg(long, env = "ALLERAC_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Print once, as text, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Print JSON, an object a line; indented with --once
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exits with 1 when something is broken; warnings alone do not count.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac doctor
  allerac doctor --json | jq '.checks[] | select(.status != \"ok\")'
  allerac doctor --listen 0.0.0.0:80         # will the server be able to listen there?")]
pub(crate) struct Doctor {
    /// The address the server is to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The address to serve HTTPS on, besides; port 0 takes a free one [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_tls: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows on this terminal how to reach the box, and its claim code; the image runs it on the box's own screen.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac console --url http://127.0.0.1 --code-file /run/allerac/claim-code
  allerac console --once")]
pub(crate) struct Console {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = parse_url)]
    pub(crate) url: reqwest::Url,
    /// The file with the claim code; the server writes it where systemd gives it a RuntimeDirectory=
    #[arg(long, value_name = "FILE")]
    pub(crate) code_file: Option<PathBuf>,
    /// The file that the emergency page writes while the server does not start
    #[arg(long, value_name = "FILE")]
    pub(crate) emergency_file: Option<PathBuf>,
    /// Print once and end
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  source <(allerac completions bash)
  allerac completions zsh > ~/.zfunc/_allerac
  allerac completions fish > ~/.config/fish/completions/allerac.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

fn top_help() -> String {
    format!(
        "Examples:
  allerac models pull smollm2-135m-instruct  # fetch a small model
  allerac serve                              # serve it on http://127.0.0.1:8080
  allerac keys create --user anna            # give somebody a key
  allerac usage                              # see who used what
  allerac top                                # watch what the box is doing
  allerac tune                               # find out how it is fastest here
  allerac doctor                             # find out what is wrong

{}",
        Exit::help()
    )
}

fn parse_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "write an address like http://127.0.0.1:8080".to_owned())
}

fn parse_month(text: &str) -> Result<String, String> {
    let first: jiff::civil::Date = format!("{text}-01").parse().map_err(|_| "write a month like 2026-11".to_owned())?;
    Ok(first.strftime("%Y-%m").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "no examples in the help of{path}");
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Args::command(), "");
    }

    #[test]
    fn months_are_checked() {
        assert_eq!(parse_month("2026-11"), Ok("2026-11".to_owned()));
        for bad in ["2026", "2026-13", "november", "2026-11-03"] {
            assert!(parse_month(bad).is_err(), "{bad} was accepted");
        }
    }
}
