use allerac_ledger::{KeyLimits, KeyRow, NewKey, Scope, Scopes, UpstreamPolicy};
use jiff::Timestamp;
use serde::Serialize;

use super::users::moment;
use crate::args::people::{Bounds, KeysRotate};
use crate::args::plans::KeysSet;
use crate::args::{Keys, KeysCreate, Place};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, print_json, print_line};

pub(crate) async fn run(command: &Keys, place: &Place) -> Result<(), Failure> {
    match command {
        Keys::Create(args) => create(args, place).await,
        Keys::List(args) => list(args.json, place),
        Keys::Set(args) => set(args, place).await,
        Keys::Rotate(args) => rotate(args, place).await,
        Keys::Revoke(args) => revoke(&args.id, place).await,
    }
}

async fn create(args: &KeysCreate, place: &Place) -> Result<(), Failure> {
    let upstreams = upstream_policy(&args.allow_upstream)?;
    let new = NewKey {
        user: args.user.clone(),
        label: args.name.clone(),
        plan: args.plan.clone(),
        upstreams,
        limits: limits(&args.bounds, place)?,
    };
    let key = place.ledger()?.create_key(new).await?;
    Ok(print_line(&key.secret)?)
}

fn limits(bounds: &Bounds, place: &Place) -> Result<KeyLimits, Failure> {
    let end = bounds.expires.as_deref().map(|end| moment(end, &place.time_zone())).transpose()?;
    Ok(KeyLimits {
        scopes: Scopes::of(&bounds.scope),
        models: bounds.model.clone(),
        hours: bounds.hours.clone().unwrap_or_default(),
        expires_at: end.map(Timestamp::as_second),
        team: bounds.team.clone(),
    })
}

async fn rotate(args: &KeysRotate, place: &Place) -> Result<(), Failure> {
    let key = place.ledger()?.rotate_key(&args.id, i64::from(args.overlap_hours) * 3600).await?;
    Ok(print_line(&key.secret)?)
}

fn upstream_policy(names: &[String]) -> Result<UpstreamPolicy, Failure> {
    if let Some(bad) = names.iter().find(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        return Err(Failure::new(Exit::Usage, format!("`{bad}` is no upstream's name"))
            .hint("use a name from the configuration file, or `all`"));
    }
    Ok(match names {
        [] => UpstreamPolicy::None,
        names if names.iter().any(|name| name == "all") => UpstreamPolicy::All,
        names => UpstreamPolicy::Named(names.to_vec()),
    })
}

/// A key as the listing shows it; the secret is stored nowhere.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    user: String,
    name: String,
    user_plan: String,
    plan: Option<String>,
    /// `all`, or the names; empty when requests may not leave the box.
    upstreams: Upstreams,
    scopes: Vec<&'static str>,
    models: Vec<String>,
    hours: String,
    team: Option<String>,
    created_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Upstreams {
    All(&'static str),
    Named(Vec<String>),
}

impl From<KeyRow> for Row {
    fn from(key: KeyRow) -> Self {
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        Self {
            id: key.id,
            user: key.user,
            name: key.name,
            user_plan: key.user_plan,
            plan: key.plan,
            upstreams: match key.upstreams {
                UpstreamPolicy::None => Upstreams::Named(Vec::new()),
                UpstreamPolicy::Named(names) => Upstreams::Named(names),
                UpstreamPolicy::All => Upstreams::All("all"),
            },
            scopes: key.scopes,
            models: key.models,
            hours: key.hours,
            team: key.team,
            created_at: time(key.created_at),
            expires_at: key.expires_at.and_then(time),
            used_at: key.used_at.and_then(time),
            revoked_at: key.revoked_at.and_then(time),
        }
    }
}

fn list(json: bool, place: &Place) -> Result<(), Failure> {
    let rows: Vec<Row> = place.ledger()?.keys()?.into_iter().map(Row::from).collect();
    if json {
        return Ok(print_json(&rows)?);
    }
    if rows.is_empty() {
        return Ok(print_line("there are no keys yet; create one: allerac keys create --user NAME")?);
    }
    let left = |title| (title, Align::Left);
    let mut table =
        Table::new(&["ID", "USER", "NAME", "PLAN", "UPSTREAMS", "BOUND TO", "CREATED", "USED", "STATE"].map(left));
    for row in rows {
        let plan = match row.plan {
            Some(plan) => format!("{} ({plan})", row.user_plan),
            None => row.user_plan.clone(),
        };
        let upstreams = match row.upstreams {
            Upstreams::All(all) => all.to_owned(),
            Upstreams::Named(names) if names.is_empty() => "none".to_owned(),
            Upstreams::Named(names) => names.join(","),
        };
        let day = |time: Timestamp| time.to_zoned(place.time_zone()).strftime("%Y-%m-%d").to_string();
        let state = match (row.revoked_at, row.expires_at) {
            (Some(time), _) => format!("revoked {}", day(time)),
            (None, Some(time)) if time <= Timestamp::now() => format!("expired {}", day(time)),
            (None, Some(time)) => format!("until {}", day(time)),
            (None, None) => "active".to_owned(),
        };
        let scopes = if row.scopes.len() == Scope::ALL.len() { String::new() } else { row.scopes.join(",") };
        let bounds = [scopes, row.models.join(","), row.hours, row.team.unwrap_or_default()];
        let bounds: Vec<String> = bounds.into_iter().filter(|bound| !bound.is_empty()).collect();
        table.row(vec![
            row.id,
            row.user,
            row.name,
            plan,
            upstreams,
            bounds.join(" | "),
            row.created_at.map(day).unwrap_or_default(),
            row.used_at.map(day).unwrap_or_default(),
            state,
        ]);
    }
    Ok(table.print()?)
}

async fn set(args: &KeysSet, place: &Place) -> Result<(), Failure> {
    let plan = args.plan.0.as_deref();
    place.ledger()?.set_key_plan(&args.id, plan).await?;
    let what = plan.map_or_else(|| "no plan of its own".to_owned(), |plan| format!("the plan {plan}"));
    Ok(print_line(&format!("the key {} has {what} now", args.id))?)
}

async fn revoke(id: &str, place: &Place) -> Result<(), Failure> {
    let key = place.ledger()?.revoke_key(id).await?;
    Ok(print_line(&format!("revoked the key {} of {}", key.id, key.user))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_the_box_is_spelled_out() {
        let policy = |names: &[&str]| upstream_policy(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(policy(&[]).unwrap(), UpstreamPolicy::None);
        assert_eq!(policy(&["a", "b"]).unwrap(), UpstreamPolicy::Named(vec!["a".into(), "b".into()]));
        assert_eq!(policy(&["a", "all"]).unwrap(), UpstreamPolicy::All);
        assert!(policy(&[""]).is_err());
        assert!(policy(&["a b"]).is_err());
    }
}
