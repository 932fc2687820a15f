use allerac_ledger::{ServeLock, Verified};

use crate::args::Place;
use crate::args::books::{Ledger, LedgerMove, LedgerVerify};
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, grouped, print_json, print_line};
use crate::place;

pub(crate) fn run(command: &Ledger, place: &Place) -> Result<(), Failure> {
    match command {
        Ledger::Verify(args) => verify(args, place),
        Ledger::Move(args) => copy_to_server(args, place),
    }
}

fn copy_to_server(args: &LedgerMove, place: &Place) -> Result<(), Failure> {
    if place.database()?.is_some() {
        return Err(Failure::new(Exit::Usage, "the ledger is on a database's server already")
            .hint("leave out --database and ALLERAC_DATABASE: the ledger of the data directory is moved"));
    }
    let to = place::database(&args.to, place.database_ca.as_ref())?;
    // No server may write meanwhile.
    let _lock = ServeLock::acquire(&place.data_dir()?)?;
    place.existing_ledger()?.copy_to_server(&to)?;
    Ok(print_line(
        "the ledger is on the server now; from now on, start everything with ALLERAC_DATABASE set to its address",
    )?)
}

fn verify(args: &LedgerVerify, place: &Place) -> Result<(), Failure> {
    let verified = place.existing_ledger()?.verify()?;
    if args.json {
        print_json(&verified)?;
    } else {
        print(&verified)?;
    }
    match verified.differences.len() {
        0 => Ok(()),
        off => Err(Failure::new(Exit::Failure, format!("{off} sums of the ledger are off"))
            .hint("keep a copy of the data directory and report this: no fault of the machine should lead to it")),
    }
}

fn print(verified: &Verified) -> std::io::Result<()> {
    let Verified { accounts, requests, open, differences } = verified;
    if differences.is_empty() {
        let counts = [grouped(*accounts), grouped(*requests), grouped(*open)];
        let [accounts, requests, open] = counts;
        return print_line(&format!(
            "the ledger adds up: {accounts} balances, {requests} settled requests, {open} open ones"
        ));
    }
    let left = |title| (title, Align::Left);
    let right = |title| (title, Align::Right);
    let columns = [left("ACCOUNT"), left("MONTH"), left("WHAT"), right("BOOKS"), right("JOURNAL"), right("OFF BY")];
    let mut table = Table::new(&columns);
    for off in differences {
        let numbers = [off.books, off.journal].map(|number| number.to_string());
        let [books, journal] = numbers;
        let (account, month) = (off.account.clone(), off.month.clone());
        table.row(vec![account, month, off.what.to_owned(), books, journal, format!("{:+}", off.off_by())]);
    }
    table.print()
}
