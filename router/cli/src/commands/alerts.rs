//! What was told to whom, and trying it out.

use allerac_ledger::{Alert, DeliveriesWanted, Delivery};
use jiff::Timestamp;
use serde_json::json;

use crate::args::Place;
use crate::args::alerts::{Alerts, AlertsList, AlertsTest};
use crate::config::ConfigFile;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, print_json, print_line};

pub(crate) async fn run(command: &Alerts, place: &Place) -> Result<(), Failure> {
    match command {
        Alerts::List(args) => list(args, place),
        Alerts::Retry(args) => {
            let retried = place.existing_ledger()?.retry_alerts(args.id.clone()).await?;
            Ok(print_line(&format!("{retried} deliveries are tried again while the server runs"))?)
        }
        Alerts::Test(args) => test(args).await,
    }
}

fn list(args: &AlertsList, place: &Place) -> Result<(), Failure> {
    let wanted = DeliveriesWanted { state: args.dead.then(|| "dead".to_owned()), after: None };
    let deliveries = place.existing_ledger()?.deliveries(&wanted, args.last)?;
    if args.json {
        return Ok(print_json(&deliveries)?);
    }
    if deliveries.is_empty() {
        return Ok(print_line("nothing was told")?);
    }
    let left = |title| (title, Align::Left);
    let columns =
        [left("TIME"), left("WHAT"), left("TO"), left("STATE"), ("TRIES", Align::Right), left("WHY NOT"), left("ID")];
    let mut table = Table::new(&columns);
    let zone = place.time_zone();
    for Delivery { alert, channel, state, tries, error, .. } in deliveries {
        let at = Timestamp::from_second(alert.at).unwrap_or_default().to_zoned(zone.clone());
        let time = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        table.row(vec![time, alert.kind, channel, state, tries.to_string(), error.unwrap_or_default(), alert.id]);
    }
    Ok(table.print()?)
}

/// Sends a test over each channel now, without the ledger.
async fn test(args: &AlertsTest) -> Result<(), Failure> {
    let config = ConfigFile::load(args.config.as_deref())?;
    let channels = config.alerts.channels(config.folder())?;
    if channels.is_empty() {
        return Err(Failure::new(Exit::Usage, "nobody is to be told")
            .hint("name webhooks or mail in [alerts]; see docs/alerts.md"));
    }
    let now = Timestamp::now();
    let id = format!("test-{}", now.as_millisecond());
    let alert = Alert { id, at: now.as_second(), kind: "test".to_owned(), detail: json!({}) };
    let mut failed = 0;
    for channel in channels {
        match channel.send(&alert, &config.label().to_string()).await {
            Ok(()) => print_line(&format!("ok      {}", channel.name()))?,
            Err(not_sent) => {
                failed += 1;
                print_line(&format!("FAILED  {}: {not_sent}", channel.name()))?;
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Failure::new(Exit::Failure, format!("{failed} could not be told"))) }
}
