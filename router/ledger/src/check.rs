//! Watches over the books from beside them: whatever a transaction writes into the journal must come to the same as
//! what it changes in the balances, and nothing may be set aside beyond a limit. Costs a few microseconds a change and
//! does not depend on how many there are, so tests have it at every commit.

use crate::error::LedgerError;
use crate::journal;
use crate::sql::{Connection, NONE, OptionalExtension};

/// Triggers that live with the connection and write down what each change comes to.
const WATCH: &str = "
    CREATE TEMP TABLE drift (account TEXT NOT NULL, month TEXT NOT NULL, used INTEGER NOT NULL, reserved INTEGER NOT NULL);
    CREATE TEMP TRIGGER usage_comes AFTER INSERT ON main.usage BEGIN
        INSERT INTO drift VALUES ('user:' || NEW.user_id, NEW.month, NEW.user_charge, 0);
        INSERT INTO drift SELECT 'key:' || NEW.key_id, NEW.month, NEW.key_charge, 0 WHERE NEW.key_account;
        INSERT INTO drift SELECT 'money ' || account, NEW.month, NEW.cost, 0 FROM (SELECT 'user:' || NEW.user_id AS account
            UNION ALL SELECT 'key:' || NEW.key_id WHERE NEW.key_account UNION ALL SELECT NEW.served_by) WHERE NEW.cost > 0;
    END;
    CREATE TEMP TRIGGER usage_goes AFTER DELETE ON main.usage BEGIN
        INSERT INTO drift VALUES ('user:' || OLD.user_id, OLD.month, -OLD.user_charge, 0);
        INSERT INTO drift SELECT 'key:' || OLD.key_id, OLD.month, -OLD.key_charge, 0 WHERE OLD.key_account;
        INSERT INTO drift SELECT 'money ' || account, OLD.month, -OLD.cost, 0 FROM (SELECT 'user:' || OLD.user_id AS account
            UNION ALL SELECT 'key:' || OLD.key_id WHERE OLD.key_account UNION ALL SELECT OLD.served_by) WHERE OLD.cost > 0;
    END;
    CREATE TEMP TRIGGER usage_stays BEFORE UPDATE OF id, request_id, key_id, user_id, key_account, model, endpoint,
        served_by, prompt_tokens, cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at,
        user_charge, key_charge, cost ON main.usage BEGIN
        SELECT raise(ABORT, 'a settled request is changed');
    END;
    CREATE TEMP TRIGGER reservations_come AFTER INSERT ON main.reservations BEGIN
        INSERT INTO drift VALUES ('user:' || NEW.user_id, NEW.month, 0, NEW.tokens);
        INSERT INTO drift SELECT 'key:' || NEW.key_id, NEW.month, 0, NEW.key_tokens WHERE NEW.key_account;
        SELECT raise(ABORT, 'more is set aside than the limit leaves') FROM balances
            WHERE month = NEW.month AND used + reserved > allowance AND (
                account = 'user:' || NEW.user_id AND NEW.tokens > 0
                OR account = 'key:' || NEW.key_id AND NEW.key_account AND NEW.key_tokens > 0);
        INSERT INTO drift SELECT 'money ' || account, NEW.month, 0, NEW.cost FROM (SELECT 'user:' || NEW.user_id AS account
            UNION ALL SELECT 'key:' || NEW.key_id WHERE NEW.key_account UNION ALL SELECT NEW.served_by) WHERE NEW.cost > 0;
        SELECT raise(ABORT, 'more is set aside than the budget leaves') FROM spending
            WHERE month = NEW.month AND used + reserved > budget AND NEW.cost > 0 AND (account = NEW.served_by
                OR account = 'user:' || NEW.user_id OR account = 'key:' || NEW.key_id AND NEW.key_account);
    END;
    CREATE TEMP TRIGGER reservations_go AFTER DELETE ON main.reservations BEGIN
        INSERT INTO drift VALUES ('user:' || OLD.user_id, OLD.month, 0, -OLD.tokens);
        INSERT INTO drift SELECT 'key:' || OLD.key_id, OLD.month, 0, -OLD.key_tokens WHERE OLD.key_account;
        INSERT INTO drift SELECT 'money ' || account, OLD.month, 0, -OLD.cost FROM (SELECT 'user:' || OLD.user_id AS account
            UNION ALL SELECT 'key:' || OLD.key_id WHERE OLD.key_account UNION ALL SELECT OLD.served_by) WHERE OLD.cost > 0;
    END;
    CREATE TEMP TRIGGER reservations_stay BEFORE UPDATE OF tokens, key_tokens, cost, month, served_by, user_id, key_id,
        key_account, price_input, price_cached, price_output ON main.reservations BEGIN
        SELECT raise(ABORT, 'a reservation is changed');
    END;
    CREATE TEMP TRIGGER spending_comes AFTER INSERT ON main.spending BEGIN
        INSERT INTO drift VALUES ('money ' || NEW.account, NEW.month, -NEW.used, -NEW.reserved);
    END;
    CREATE TEMP TRIGGER spending_changes AFTER UPDATE ON main.spending BEGIN
        INSERT INTO drift VALUES ('money ' || NEW.account, NEW.month, OLD.used - NEW.used, OLD.reserved - NEW.reserved);
    END;
    CREATE TEMP TRIGGER spending_stays BEFORE DELETE ON main.spending BEGIN
        SELECT raise(ABORT, 'what was spent is forgotten');
    END;
    CREATE TEMP TRIGGER balances_come AFTER INSERT ON main.balances BEGIN
        INSERT INTO drift VALUES (NEW.account, NEW.month, -NEW.used, -NEW.reserved);
    END;
    CREATE TEMP TRIGGER balances_change AFTER UPDATE ON main.balances BEGIN
        INSERT INTO drift VALUES (NEW.account, NEW.month, OLD.used - NEW.used, OLD.reserved - NEW.reserved);
    END;
    CREATE TEMP TRIGGER balances_stay BEFORE DELETE ON main.balances BEGIN
        SELECT raise(ABORT, 'a balance is forgotten');
    END;";

/// Has a writing connection watched.
pub(crate) fn watch(connection: &Connection) -> Result<(), LedgerError> {
    match connection {
        Connection::Sqlite(_) => Ok(connection.batch(WATCH)?),
        // There it is all added up again, which takes the longer the more there is.
        Connection::Postgres(_) => Ok(()),
    }
}

/// Before a commit of a watched connection: refuses it where journal and balances have drifted apart.
pub(crate) fn balanced(connection: &Connection) -> Result<(), LedgerError> {
    if let Connection::Postgres(_) = connection {
        let first = journal::differences(connection)?.into_iter().next();
        return first.map_or(Ok(()), |difference| Err(LedgerError::Inconsistent(format!("{difference:?}"))));
    }
    let drifted = connection
        .prepare_cached(
            "SELECT account, month, sum(used), sum(reserved) FROM temp.drift GROUP BY account, month
             HAVING sum(used) <> 0 OR sum(reserved) <> 0 LIMIT 1",
        )?
        .query_row(NONE, |row| {
            let (account, month): (String, String) = (row.get(0)?, row.get(1)?);
            let (used, reserved): (i64, i64) = (row.get(2)?, row.get(3)?);
            Ok(format!("{account} in {month}: the journal has {used} used and {reserved} reserved more than the books"))
        })
        .optional()?;
    if let Some(drifted) = drifted {
        return Err(LedgerError::Inconsistent(drifted));
    }
    connection.prepare_cached("DELETE FROM temp.drift")?.execute(NONE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some books with a user, 90 of whose 100 tokens are used.
    fn books() -> Connection {
        let connection = crate::schema::in_memory();
        let some = "INSERT INTO users (id, name, role, plan, salt, created_at)
                VALUES (1, 'anna', 'member', 'starter', 5, 100);
            INSERT INTO keys (id, public_id, hash, user_id, label, upstreams, created_at)
                VALUES (1, 'aaaaaaaaaaaa', x'00', 1, '', '', 100);";
        connection.batch(some).unwrap();
        watch(&connection).unwrap();
        connection.batch(&format!("{BALANCE}{}", usage(90))).unwrap();
        balanced(&connection).unwrap();
        connection
    }

    const BALANCE: &str =
        "INSERT INTO balances (account, month, used, allowance) VALUES ('user:1', '2026-11', 90, 100);";

    fn usage(tokens: u32) -> String {
        format!(
            "INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,
             cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at, user_charge)
             VALUES ('{tokens}', 1, 1, 0, 'm', 'e', 'local', {tokens}, 0, 0, 'completed', 'd', '2026-11', 1, 1, {tokens});"
        )
    }

    fn reservation(tokens: u32) -> String {
        format!(
            "INSERT INTO reservations (request_id, key_id, user_id, key_account, model, endpoint, served_by, tokens, slot,
             day, month, created_at) VALUES ('r', 1, 1, 0, 'm', 'e', 'local', {tokens}, 0, 'd', '2026-11', 1);"
        )
    }

    #[test]
    fn what_does_not_follow_from_the_journal_is_refused() {
        let wrong = [
            "UPDATE balances SET used = used + 1".to_owned(),
            "UPDATE balances SET reserved = 7".to_owned(),
            usage(3),
            "DELETE FROM usage".to_owned(),
            format!("UPDATE balances SET reserved = 4; {}", reservation(5)),
        ];
        for change in wrong {
            let connection = books();
            connection.batch(&change).unwrap();
            let refused = balanced(&connection).unwrap_err().to_string();
            assert!(refused.contains("user:1 in 2026-11"), "{change}: {refused}");
        }
        let connection = books();
        connection.batch(&format!("UPDATE balances SET reserved = 10; {}", reservation(10))).unwrap();
        balanced(&connection).unwrap();
        let settled = "DELETE FROM reservations; UPDATE balances SET used = 93, reserved = 0;";
        connection.batch(&format!("{settled} {}", usage(3))).unwrap();
        balanced(&connection).unwrap();
    }

    #[test]
    fn what_must_never_happen_is_refused_at_once() {
        let never = [
            (format!("UPDATE balances SET reserved = 11; {}", reservation(11)), "more is set aside"),
            ("UPDATE usage SET user_charge = 1".to_owned(), "a settled request is changed"),
            ("DELETE FROM balances".to_owned(), "a balance is forgotten"),
        ];
        for (change, reason) in never {
            let refused = books().batch(&change).unwrap_err().to_string();
            assert!(refused.contains(reason), "{change}: {refused}");
        }
    }
}
