//! People, and what keys are bound to, on the command line.

use allerac_ledger::{Hours, Role, Scope};
use clap::{Args as ClapArgs, Subcommand};

use super::Listing;
use super::plans::UsersIncrease;

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac users list
  allerac users add kim --role child --plan starter --hours '07:00-20:00' --model 'smol*'
  allerac users set anna --plan pro
  allerac users password anna < password.txt
  allerac users reset anna --url http://allerac.local
  allerac users increase anna --tokens 2M --until 2026-12-24

Users come with their first key (allerac keys create --user NAME), with an invitation, or are added.")]
pub(crate) enum Users {
    /// List all users with what they have left this month
    List(Listing),
    /// Add somebody who has no key yet
    Add(UsersAdd),
    /// Change somebody's role, plan, hours or models; what was used this month stays used
    Set(UsersSet),
    /// Set somebody's password, read from standard input; their sessions end
    Password(UsersPassword),
    /// Make a link by which somebody sets a password themselves; it opens once
    Reset(UsersReset),
    /// Call somebody otherwise; all that is theirs stays theirs
    Rename(UsersRename),
    /// Take somebody's keys, sessions and ways to sign in, and give their name free
    Remove(UsersRemove),
    /// Give a user more tokens a month for a while
    Increase(UsersIncrease),
    /// Write all that the box knows of a user into a file
    Export(super::care::UsersExport),
    /// Delete a user with all that they keep
    Erase(super::care::UsersErase),
}

/// What somebody new is in the box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Standing {
    /// What they are or become: owner, admin, member, child or auditor
    #[arg(long, value_name = "ROLE", default_value = "member")]
    pub(crate) role: Role,
    /// The plan
    #[arg(long, value_name = "PLAN", default_value = "personal")]
    pub(crate) plan: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users add anna
  allerac users add kim --role child --plan starter --hours 'mon-fri 07:00-20:00; sat,sun 09:00-21:00'")]
pub(crate) struct UsersAdd {
    /// The name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) standing: Standing,
    /// When they may use the box, in the time zone of days and months
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<Hours>,
    /// A model that they may use (`*` may end its name); may be repeated
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users set anna --plan pro
  allerac users set kim --role child --hours '07:00-20:00' --model 'smol*'
  allerac users set kim --hours '' --model all")]
pub(crate) struct UsersSet {
    /// Which user
    pub(crate) name: String,
    /// What they are: owner, admin, member, child or auditor
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    /// The new plan
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
    /// When they may use the box; empty for always
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<Hours>,
    /// A model that they may use (`*` may end its name), or `all`; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users password anna < password.txt
  allerac users password anna --remove-second-factor < password.txt")]
pub(crate) struct UsersPassword {
    /// Which user
    pub(crate) name: String,
    /// Also ask for no second factor any more, for who lost theirs
    #[arg(long)]
    pub(crate) remove_second_factor: bool,
    /// Also take all passkeys away, for who lost their devices
    #[arg(long)]
    pub(crate) remove_passkeys: bool,
    /// Also let no other provider sign them in any more; they can be linked again
    #[arg(long)]
    pub(crate) remove_identities: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users reset anna --url http://allerac.local
  allerac users reset anna --hours 2 --url http://allerac.local")]
pub(crate) struct UsersReset {
    /// Which user
    pub(crate) name: String,
    /// How many hours the link opens, 168 at most
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) hours: u16,
    /// How the box is reached
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = super::parse_url)]
    pub(crate) url: reqwest::Url,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users rename anna anna-maria")]
pub(crate) struct UsersRename {
    /// Which user
    pub(crate) name: String,
    /// What they are to be called
    pub(crate) to: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac users remove anna")]
pub(crate) struct UsersRemove {
    /// Which user
    pub(crate) name: String,
}

/// What a key is bound to.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Bounds {
    /// Endpoints that it opens: inference, models, files, account or admin; may be repeated [default: all that its person may]
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<Scope>,
    /// A model that it may use (`*` may end its name); may be repeated
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Vec<String>,
    /// When it may be used, in the time zone of days and months: 'mon-fri 07:00-20:00; sat,sun 09:00-21:30'
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<Hours>,
    /// Until when it opens: a day (its begin, in the time zone of days and months), or a moment
    #[arg(long, value_name = "DATE|TIME")]
    pub(crate) expires: Option<String>,
    /// A team of its person's, which pays for it
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac keys rotate k3x7q2m9p4ab
  allerac keys rotate k3x7q2m9p4ab --overlap-hours 0")]
pub(crate) struct KeysRotate {
    /// The key's public id, as `allerac keys list` shows it
    pub(crate) id: String,
    /// How long the secret before still opens, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) overlap_hours: u16,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac teams add shop --plan pro
  allerac teams join shop anna
  allerac keys create --user anna --team shop

What a team's keys ask is paid by the team's own account.")]
pub(crate) enum Teams {
    /// List all teams with what they have left this month
    List(Listing),
    /// Make a team
    Add(TeamsAdd),
    /// Give a team another plan; what was used this month stays used
    Set(TeamsAdd),
    /// Make somebody a member
    Join(TeamsMember),
    /// Take somebody out; their keys of the team end
    Leave(TeamsMember),
    /// Remove a team and its keys
    Remove(TeamsRemove),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac teams add shop --plan pro")]
pub(crate) struct TeamsAdd {
    /// The team's name
    pub(crate) name: String,
    /// Its plan
    #[arg(long, value_name = "PLAN", default_value = "personal")]
    pub(crate) plan: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac teams join shop anna")]
pub(crate) struct TeamsMember {
    /// The team's name
    pub(crate) team: String,
    /// The member's name
    pub(crate) user: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac teams remove shop")]
pub(crate) struct TeamsRemove {
    /// The team's name
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  allerac invitations create --role child --plan starter --url http://allerac.local
  allerac invitations list
  allerac invitations revoke k3x7q2m9p4ab")]
pub(crate) enum Invitations {
    /// Make an invitation and print its link, which opens once
    Create(InvitationsCreate),
    /// List all invitations
    List(Listing),
    /// Take one back that nobody took
    Revoke(InvitationsRevoke),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac invitations create --url http://allerac.local
  allerac invitations create --name kim --role child --plan starter --days 2 --url http://allerac.local")]
pub(crate) struct InvitationsCreate {
    /// The name that they get [default: they choose one]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) standing: Standing,
    /// A team that they become a member of
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
    /// How many days it is open
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) days: u16,
    /// How the box is reached
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = super::parse_url)]
    pub(crate) url: reqwest::Url,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  allerac invitations revoke k3x7q2m9p4ab")]
pub(crate) struct InvitationsRevoke {
    /// Its id, as `allerac invitations list` shows it
    pub(crate) id: String,
}
