use allerac_ledger::{Invitation, Role};
use jiff::Timestamp;

use crate::args::Place;
use crate::args::people::{Invitations, InvitationsCreate};
use crate::failure::Failure;
use crate::output::{Align, Table, print_json, print_line};

const DAY_S: i64 = 24 * 3600;

pub(crate) async fn run(command: &Invitations, place: &Place) -> Result<(), Failure> {
    match command {
        Invitations::Create(args) => create(args, place).await,
        Invitations::List(args) => list(args.json, place),
        Invitations::Revoke(args) => {
            place.ledger()?.revoke_invitation(&args.id, Role::Owner).await?;
            Ok(print_line(&format!("took the invitation {} back", args.id))?)
        }
    }
}

async fn create(args: &InvitationsCreate, place: &Place) -> Result<(), Failure> {
    let invitation = Invitation {
        name: args.name.clone(),
        role: args.standing.role,
        plan: args.standing.plan.clone(),
        team: args.team.clone(),
        open_s: i64::from(args.days) * DAY_S,
    };
    // Who has the command line of the box is its owner.
    let made = place.ledger()?.invite(invitation, Role::Owner, "command line").await?;
    let mut url = args.url.clone();
    url.set_fragment(Some(&format!("invitation={}", made.secret)));
    Ok(print_line(url.as_str())?)
}

fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let all = place.ledger()?.invitations()?;
    if json {
        return Ok(print_json(&all)?);
    }
    if all.is_empty() {
        return Ok(print_line("there are no invitations; make one: allerac invitations create")?);
    }
    let left = |title| (title, Align::Left);
    let mut table = Table::new(&["ID", "NAME", "ROLE", "PLAN", "TEAM", "BY", "STATE"].map(left));
    let now = Timestamp::now().as_second();
    for row in all {
        let state = match (&row.user, row.revoked_at) {
            (Some(user), _) => format!("taken by {user}"),
            (None, Some(_)) => "revoked".to_owned(),
            _ if row.invited.expires_at <= now => "expired".to_owned(),
            _ => "open".to_owned(),
        };
        let role = row.invited.role.to_string();
        let cells = [row.id, row.invited.name.unwrap_or_default(), role, row.invited.plan];
        table.row(cells.into_iter().chain([row.invited.team.unwrap_or_default(), row.created_by, state]).collect());
    }
    Ok(table.print()?)
}
