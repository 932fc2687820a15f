//! Books in `PostgreSQL`, asked from threads that wait for the answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pollster::block_on;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, RowStream, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_stream::StreamExt;

use super::Result;
use super::value::{Cell, Kind, Param};

/// How long it may take to reach the server.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the network may swallow what is sent before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// After which silence it is asked whether the other side is there, how often, and how many times in vain.
const ALIVE_AFTER: Duration = Duration::from_secs(10);
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_TRIES: u32 = 3;
/// Said to the server at the begin: who vanishes in the middle of a transaction holds up the others for some seconds only.
const MANNERS: &str = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '30s';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// Queries that a connection keeps ready. The program has fewer; those put together as it runs make room for each other.
const READY_MAX: usize = 256;

/// What drives all connections; those who wait for an answer sleep.
static DRIVER: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("postgres").enable_all().build().expect("a thread can be started")
});

/// Where a `PostgreSQL` database is, and how it is reached.
#[derive(Clone)]
pub struct Postgres {
    config: Arc<Config>,
    tls: Option<MakeRustlsConnect>,
}

/// An address that leads to no database.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(String);

impl Postgres {
    /// A database by its address, `postgres://user:password@host:port/database`, or the pairs that libpq's programs take.
    /// Without an `sslmode` in it, other machines are reached by TLS only. Certificates are checked, by the authorities in
    /// a file (PEM) where one is given, else by those of the web.
    ///
    /// # Errors
    /// [`InvalidAddress`]; the address, which may have a password in it, is not told.
    pub fn new(address: &str, authorities: Option<&PathBuf>) -> std::result::Result<Self, InvalidAddress> {
        let wrong =
            |error: &dyn fmt::Display| InvalidAddress(format!("the database's address cannot be read: {error}"));
        let mut config = Config::from_str(address).map_err(|error| wrong(&error))?;
        if config.get_dbname().is_none() || config.get_hosts().is_empty() {
            return Err(InvalidAddress(
                "the address names no host or no database: postgres://user@host/database".into(),
            ));
        }
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            Host::Unix(_) => true,
        };
        // What is preferred only would be left out where somebody on the way says so.
        if config.get_ssl_mode() == SslMode::Prefer {
            let all_here = config.get_hosts().iter().all(is_here)
                && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
            config.ssl_mode(if all_here { SslMode::Disable } else { SslMode::Require });
        }
        config.connect_timeout(CONNECT_TIME_MAX).tcp_user_timeout(SILENCE_MAX).application_name("allerac");
        config.keepalives_idle(ALIVE_AFTER).keepalives_interval(ALIVE_EVERY).keepalives_retries(ALIVE_TRIES);
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(trusting(authorities)?),
        };
        Ok(Self { config: Arc::new(config), tls })
    }

    fn connect(&self) -> std::result::Result<Client, tokio_postgres::Error> {
        let (config, tls) = (Arc::clone(&self.config), self.tls.clone());
        let connecting = DRIVER.spawn(async move {
            match tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        });
        // Tokio would have the thread of a runtime, which the ledger's is, take a rest after many tries; but nobody else is
        // there to wake it then.
        block_on(tokio::task::unconstrained(connecting)).expect("connecting does not panic")
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No password.
        formatter.debug_struct("Postgres").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

fn trusting(authorities: Option<&PathBuf>) -> std::result::Result<MakeRustlsConnect, InvalidAddress> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let unusable = |error: &dyn fmt::Display| InvalidAddress(format!("{}: {error}", path.display()));
            let file = File::open(path).map_err(|error| unusable(&error))?;
            for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
            if roots.is_empty() {
                return Err(unusable(&"there is no certificate in it"));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidAddress(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection.
pub(crate) struct Session {
    at: Postgres,
    client: Client,
    ready: RefCell<HashMap<String, Statement>>,
}

impl Session {
    pub(crate) fn open(at: &Postgres) -> Result<Self> {
        let session = Self { at: at.clone(), client: at.connect()?, ready: RefCell::default() };
        session.batch(MANNERS)?;
        Ok(session)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    /// Connects again where the connection was lost.
    pub(crate) fn restore(&mut self) -> Result<()> {
        if self.is_lost() {
            *self = Self::open(&self.at.clone())?;
        }
        Ok(())
    }

    /// Does several things that answer nothing.
    pub(crate) fn batch(&self, text: &str) -> Result<()> {
        Ok(block_on(self.client.batch_execute(text))?)
    }

    pub(crate) fn execute(&self, text: &str, params: &[Param<'_>]) -> Result<usize> {
        let statement = self.ready(text, params)?;
        let changed = block_on(self.client.execute_raw(&statement, params.iter().copied().map(Bound)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(crate) fn query(&self, text: &str, params: &[Param<'_>]) -> Result<Rows> {
        let statement = self.ready(text, params)?;
        let stream = block_on(self.client.query_raw(&statement, params.iter().copied().map(Bound)))?;
        Ok(Rows { stream: Box::pin(stream), current: None })
    }

    fn ready(&self, text: &str, params: &[Param<'_>]) -> Result<Statement> {
        if let Some(ready) = self.ready.borrow().get(text) {
            return Ok(ready.clone());
        }
        let types: Vec<Type> = params.iter().map(type_of).collect();
        let statement = block_on(self.client.prepare_typed(&numbered(text), &types))?;
        let mut ready = self.ready.borrow_mut();
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// An answer that comes row by row.
pub(crate) struct Rows {
    stream: Pin<Box<RowStream>>,
    current: Option<tokio_postgres::Row>,
}

impl Rows {
    pub(crate) fn next(&mut self) -> Result<Option<&tokio_postgres::Row>> {
        self.current = block_on(self.stream.next()).transpose()?;
        Ok(self.current.as_ref())
    }
}

/// A query's text with parameters as `PostgreSQL` writes them: `$1` for `?1`, and for `?` the next one.
fn numbered(text: &str) -> String {
    let mut parts = text.split('?');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for (number, part) in (1..).zip(parts) {
        result.push('$');
        if !part.starts_with(|next: char| next.is_ascii_digit()) {
            let _ = write!(result, "{number}");
        }
        result.push_str(part);
    }
    result
}

fn type_of(param: &Param<'_>) -> Type {
    match param {
        Param::Nothing(Kind::Number) | Param::Number(_) => Type::INT8,
        Param::Nothing(Kind::Text) | Param::Text(_) => Type::TEXT,
        Param::Nothing(Kind::Bytes) | Param::Bytes(_) => Type::BYTEA,
        Param::Nothing(Kind::OfItsPlace) => Type::UNKNOWN,
    }
}

/// A parameter as it is sent.
#[derive(Debug)]
struct Bound<'a>(Param<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Param::Nothing(_) => Ok(IsNull::Yes),
            Param::Number(number) => number.to_sql(kind, out),
            Param::Text(text) => text.to_sql(kind, out),
            Param::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Cell::Number(i64::from_sql(kind, raw)?),
            Type::INT4 => Cell::Number(i32::from_sql(kind, raw)?.into()),
            Type::BOOL => Cell::Number(bool::from_sql(kind, raw)?.into()),
            Type::NUMERIC => Cell::Number(whole(raw).ok_or("the sum is no whole number of 64 bits")?),
            Type::BYTEA => Cell::Bytes(raw),
            _ => Cell::Text(<&str>::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Cell::Nothing)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::NUMERIC, Type::BYTEA].contains(kind)
            || <&str as FromSql>::accepts(kind)
    }
}

/// Sums come as decimal numbers: groups of four digits, the power of 10,000 of the first, sign, digits after the point
/// (PostgreSQL's `numeric_send`).
fn whole(raw: &[u8]) -> Option<i64> {
    let (head, groups) = raw.split_at_checked(8)?;
    let number = |place: usize| i16::from_be_bytes([head[place], head[place + 1]]);
    let (weight, sign) = (number(2), number(4));
    let mut groups = groups.chunks_exact(2).map(|group| i64::from(i16::from_be_bytes([group[0], group[1]])));
    let mut sum = 0_i64;
    for _ in 0..=weight {
        sum = sum.checked_mul(10_000)?.checked_add(groups.next().unwrap_or(0))?;
    }
    (sign == 0 || sign == 0x4000).then_some(if sign == 0 { sum } else { -sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_get_numbers() {
        assert_eq!(numbered("a = ?1 AND b = ?12"), "a = $1 AND b = $12");
        assert_eq!(numbered("a IN (?, ?) AND b = ?"), "a IN ($1, $2) AND b = $3");
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
    }

    fn numeric(groups: &[i16], weight: i16, sign: i16) -> Vec<u8> {
        let head = [i16::try_from(groups.len()).unwrap(), weight, sign, 0];
        head.iter().chain(groups).flat_map(|number| number.to_be_bytes()).collect()
    }

    #[test]
    fn sums_are_read() {
        assert_eq!(whole(&numeric(&[], 0, 0)), Some(0));
        assert_eq!(whole(&numeric(&[1, 2345], 1, 0)), Some(12_345));
        // Zeros at the end are not sent.
        assert_eq!(whole(&numeric(&[7], 2, 0x4000)), Some(-700_000_000));
        assert_eq!(whole(&numeric(&[922, 3372, 368, 5477, 5807], 4, 0)), Some(i64::MAX));
        assert_eq!(whole(&numeric(&[9999, 9999, 9999, 9999, 9999], 4, 0)), None);
        assert_eq!(whole(&[0, 1]), None);
    }

    #[test]
    fn addresses_that_lead_nowhere_are_refused_without_telling_the_password() {
        for bad in ["postgres://anna:secret@/x", "nonsense", "postgres://anna:secret@host:port/x", "host=box"] {
            let refused = Postgres::new(bad, None).unwrap_err().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
        let here = Postgres::new("postgres://anna:secret@localhost/books", None).unwrap();
        assert!(here.tls.is_none() && !format!("{here:?}").contains("secret"));
        for elsewhere in [
            "postgres://anna@box.example/books",
            "postgres://anna@box.example/books?sslmode=prefer",
            "postgres://anna:sslmode@box.example/books",
            "host=localhost hostaddr=192.0.2.1 dbname=books",
        ] {
            assert_eq!(Postgres::new(elsewhere, None).unwrap().config.get_ssl_mode(), SslMode::Require, "{elsewhere}");
        }
    }
}
