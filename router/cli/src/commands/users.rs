use std::io::{BufRead, Read};

use allerac_ledger::{Increase, PersonChange, Role, UserRow};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::args::Place;
use crate::args::people::{Standing, Users, UsersAdd, UsersPassword, UsersReset, UsersSet};
use crate::args::plans::UsersIncrease;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, grouped, print_json, print_line};

/// More of a line than any password has, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

const HOUR_S: i64 = 3600;

pub(crate) async fn run(command: &Users, place: &Place) -> Result<(), Failure> {
    match command {
        Users::List(args) => list(args.json, place),
        Users::Add(args) => add(args, place).await,
        Users::Set(args) => set(args, place).await,
        Users::Password(args) => password(args, place).await,
        Users::Reset(args) => reset(args, place).await,
        Users::Rename(args) => {
            let change = PersonChange { name: Some(args.to.clone()), ..PersonChange::default() };
            place.ledger()?.change_person(&args.name, change, Role::Owner).await?;
            Ok(print_line(&format!("{} is called {} now", args.name, args.to.trim()))?)
        }
        Users::Remove(args) => {
            place.ledger()?.remove_person(&args.name, Role::Owner).await?;
            Ok(print_line(&format!("removed {}; what they used stays in the books", args.name))?)
        }
        Users::Export(args) => super::person::export(args, place).await,
        Users::Erase(args) => super::person::erase(args, place).await,
        Users::Increase(args) => increase(args, place).await,
    }
}

// Whoever has the command line of the box may do what its owner may.

async fn add(args: &UsersAdd, place: &Place) -> Result<(), Failure> {
    let Standing { role, plan } = &args.standing;
    let facts = PersonChange {
        name: None,
        role: Some(*role),
        plan: Some(plan.clone()),
        hours: args.hours.clone(),
        models: models(&args.model),
    };
    place.ledger()?.add_person_with(&args.name, facts, Role::Owner).await?;
    Ok(print_line(&format!("added {} as {role}", args.name))?)
}

async fn set(args: &UsersSet, place: &Place) -> Result<(), Failure> {
    let change = PersonChange {
        name: None,
        role: args.role,
        plan: args.plan.clone(),
        hours: args.hours.clone(),
        models: models(&args.model),
    };
    if change.role.is_none() && change.plan.is_none() && change.hours.is_none() && change.models.is_none() {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed")
            .hint("give --role, --plan, --hours or --model; see allerac users set --help"));
    }
    let plan = change.plan.clone();
    place.ledger()?.change_person(&args.name, change, Role::Owner).await?;
    let told = match plan {
        Some(plan) => format!("{} has the plan {plan} now", args.name),
        None => format!("changed {}", args.name),
    };
    Ok(print_line(&told)?)
}

/// `all` among them means that none is named.
fn models(names: &[String]) -> Option<Vec<String>> {
    let named = || names.iter().filter(|name| *name != "all").cloned().collect();
    (!names.is_empty()).then(named)
}

async fn password(args: &UsersPassword, place: &Place) -> Result<(), Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_BYTES_MAX).read_line(&mut line);
    read.map_err(|error| Failure::new(Exit::Usage, format!("the password cannot be read: {error}")))?;
    let hash = allerac_ledger::hash_password(line.trim_end_matches(['\n', '\r']))?;
    let ledger = place.ledger()?;
    ledger.set_password(&args.name, Some(hash), (None, Some(Role::Owner))).await?;
    if args.remove_second_factor {
        ledger.remove_second_factor(&args.name).await?;
    }
    if args.remove_passkeys {
        ledger.remove_passkeys(&args.name).await?;
    }
    if args.remove_identities {
        ledger.unlink_identities(&args.name).await?;
    }
    Ok(print_line(&format!("{} has another password now", args.name))?)
}

async fn reset(args: &UsersReset, place: &Place) -> Result<(), Failure> {
    let (link, _) = place.ledger()?.password_link(&args.name, i64::from(args.hours) * HOUR_S, Role::Owner).await?;
    let mut url = args.url.clone();
    url.set_fragment(Some(&format!("password={}", link.secret)));
    Ok(print_line(url.as_str())?)
}

async fn increase(args: &UsersIncrease, place: &Place) -> Result<(), Failure> {
    let ledger = place.ledger()?;
    let (Some(tokens), Some(until)) = (args.tokens, &args.until) else {
        let ended = ledger.end_increases(&args.name).await?;
        return Ok(print_line(&format!("ended {ended} increases of {}", args.name))?);
    };
    let ends_at = moment(until, &place.time_zone())?;
    ledger.increase(&args.name, Increase { tokens, ends_at: ends_at.as_second() }).await?;
    Ok(print_line(&format!("{} has {} more tokens a month until {ends_at}", args.name, grouped(tokens)))?)
}

/// A day stands for its begin.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, Failure> {
    let day = text.parse::<Date>().ok().and_then(|day| day.to_zoned(zone.clone()).ok());
    let moment = if text.contains('T') { None } else { day.map(|zoned| zoned.timestamp()) };
    moment.or_else(|| text.parse().ok()).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("`{text}` is no time"))
            .hint("write a day like 2026-12-24, or a moment like 2026-12-24T18:00:00Z")
    })
}

fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let users = place.ledger()?.users()?;
    if json {
        return Ok(print_json(&users)?);
    }
    if users.is_empty() {
        return Ok(print_line("there are no users yet; create a key: allerac keys create --user NAME")?);
    }
    let left = |title| (title, Align::Left);
    let right = |title| (title, Align::Right);
    let columns = ["USER", "ROLE", "PLAN"].map(left).into_iter().chain(["KEYS", "USED", "LEFT", "LIMIT"].map(right));
    let mut table = Table::new(&columns.chain([left("INCREASED UNTIL")]).collect::<Vec<_>>());
    let zone = place.time_zone();
    for UserRow { user, role, plan, keys, quota, increases, .. } in users {
        let amount = |amount: Option<u64>| amount.map_or_else(|| "-".to_owned(), grouped);
        let until = increases.iter().filter_map(|increase| Timestamp::from_second(increase.ends_at).ok()).max();
        let until = until.map(|end| end.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string());
        table.row(vec![
            user,
            role.as_str().to_owned(),
            plan,
            keys.to_string(),
            grouped(quota.used),
            amount(quota.free),
            amount(quota.limit),
            until.unwrap_or_default(),
        ]);
    }
    Ok(table.print()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_in_the_time_zone() {
        let vienna = TimeZone::get("Europe/Vienna").unwrap();
        assert_eq!(moment("2026-12-24", &vienna).unwrap().to_string(), "2026-12-23T23:00:00Z");
        assert_eq!(moment("2026-12-24T18:00:00Z", &vienna).unwrap().to_string(), "2026-12-24T18:00:00Z");
        for bad in ["", "tomorrow", "2026-13-01", "2026-12-24T18:00:00"] {
            assert_eq!(moment(bad, &vienna).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
