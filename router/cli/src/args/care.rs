//! Backups on the command line, and going back to an older version.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac backup create --to /media/stick
  allerac backup create --to box.age --recipient age1ql3z...
  allerac backup list --config /etc/allerac.toml
  allerac backup verify box.age
  allerac backup restore box.age --data-dir /new/box

The passphrase is asked for; scripts give it in ALLERAC_BACKUP_PASSPHRASE or with --passphrase-file.
[backup] in the configuration file makes backups by themselves.")]
pub(crate) enum Backup {
    /// Make a backup now, whether a server runs or not
    Create(BackupCreate),
    /// List backups
    List(BackupList),
    /// Open a backup and check all of it; nothing is changed
    Verify(BackupVerify),
    /// Put a backup in place
    Restore(BackupRestore),
}

/// What seals or opens a backup.
#[derive(Debug, ClapArgs)]
pub(crate) struct Words {
    /// A file whose one line is the passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The passphrase; better in the environment, where nobody else sees it
    #[arg(long, env = "ALLERAC_BACKUP_PASSPHRASE", hide = true, hide_env_values = true)]
    pub(crate) passphrase: Option<String>,
}

/// What commands about backups take alike.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Keys, users, plans, usage, the audit log, the secret of the box and what people keep are in it; models are not.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac backup create --to /media/stick
  allerac backup create --to box.age --passphrase-file /root/backup.pass
  allerac backup create --config /etc/allerac.toml     # as [backup] says")]
pub(crate) struct BackupCreate {
    /// A folder, or a new file in one [default: the place that [backup] names]
    #[arg(long, value_name = "FOLDER|FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Seal it to an age recipient instead of with a passphrase; may be repeated
    #[arg(long, value_name = "AGE1...", conflicts_with_all = ["passphrase_file", "passphrase"])]
    pub(crate) recipient: Vec<String>,
    #[command(flatten)]
    pub(crate) words: Words,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac backup list --from /media/stick
  allerac backup list --config /etc/allerac.toml --json")]
pub(crate) struct BackupList {
    /// A folder [default: the place that [backup] names]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Which backup, and what opens it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Opened {
    /// A file, or the name of a backup as `allerac backup list` shows it [default: the newest]
    pub(crate) backup: Option<PathBuf>,
    /// A folder to look in [default: the place that [backup] names]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: Option<PathBuf>,
    /// A file with an age identity, for a backup that was sealed to a recipient
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase_file", "passphrase"])]
    pub(crate) identity: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) words: Words,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Unpacks it in the temporary folder (TMPDIR), checks files, books, audit log and what people keep, and removes it there.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac backup verify box.age
  allerac backup verify --from /media/stick
  allerac backup verify --config /etc/allerac.toml --identity box.key")]
pub(crate) struct BackupVerify {
    #[command(flatten)]
    pub(crate) opened: Opened,
}

/// Stop the server first. Everything is checked before anything is changed; whatever interrupts it, the data directory is
/// then as it was or as the backup is.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac backup restore box.age --data-dir /new/box
  allerac backup restore --from /media/stick
  allerac backup restore box.age --replace             # what was there is kept in the folder `replaced`")]
pub(crate) struct BackupRestore {
    #[command(flatten)]
    pub(crate) opened: Opened,
    /// Put it in the place of the data that are there
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Writes a zip file: what the books know of the person, each request (never what it said), and all that they keep:
/// responses, chat completions, files, batches.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users export anna --output anna.zip")]
pub(crate) struct UsersExport {
    /// Which user
    pub(crate) name: String,
    /// The file to write; it must not be there
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Refuses the person's keys, deletes all that they keep, and takes their name out of the books. What they used stays in the
/// sums, under a name that says nothing. Backups made before still have it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users export anna --output anna.zip
  allerac users erase anna --yes")]
pub(crate) struct UsersErase {
    /// Which user
    pub(crate) name: String,
    /// Erase without asking again
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Stop the server first. What only the newer version had a place for is lost: settings and figures of what is new there.
/// Users, keys, books and what people keep stay. A box of the image does this by itself when it goes back to a version.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac downgrade
  allerac downgrade --data-dir /var/lib/allerac")]
pub(crate) struct Downgrade {}
