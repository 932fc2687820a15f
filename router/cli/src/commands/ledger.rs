use allerac_ledger::Verified;

use crate::args::Place;
use crate::args::books::Ledger;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Table, grouped, print_json, print_line};

pub(crate) fn run(command: &Ledger, place: &Place) -> Result<(), Failure> {
    let Ledger::Verify(args) = command;
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
