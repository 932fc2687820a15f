//! A mail.

use std::time::Duration;

use allerac_ledger::Alert;
use lettre::message::{Mailbox, Mailboxes, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::channel::NotSent;
use crate::text::{body, subject};

/// How long the server may take for each answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// How mails are protected on their way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after a greeting; without it nothing is sent.
    StartTls,
    /// None: only to this machine.
    None,
}

/// How mail is set up.
#[derive(Clone)]
pub struct MailConfig {
    /// The server's name.
    pub server: String,
    /// Its port; as usual for the security where `None`.
    pub port: Option<u16>,
    /// How it is protected.
    pub security: Security,
    /// Who we are there, and the password.
    pub login: Option<(String, String)>,
    /// The sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// A certificate in PEM that is believed, beside the usual ones.
    pub certificate: Option<Vec<u8>>,
    /// Kinds of alerts that are sent; all where empty.
    pub events: Vec<String>,
}

/// Mail.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
    events: Vec<String>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Mail({})", self.to)
    }
}

impl Mail {
    /// Checks what it is set up with.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn new(config: MailConfig) -> Result<Self, String> {
        let address = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no address: {error}"));
        let from = address(&config.from)?;
        let to = config.to.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("`to` names nobody".to_owned());
        }
        let is_here = matches!(config.server.as_str(), "localhost" | "127.0.0.1" | "::1");
        if config.security == Security::None && !is_here {
            return Err("without TLS mail goes to `localhost` only; use starttls or tls".to_owned());
        }
        let mut parameters = TlsParameters::builder(config.server.clone());
        if let Some(pem) = &config.certificate {
            let certificate = lettre::transport::smtp::client::Certificate::from_pem(pem);
            parameters =
                parameters.add_root_certificate(certificate.map_err(|error| format!("certificate_file: {error}"))?);
        }
        let parameters = parameters.build().map_err(|error| error.to_string())?;
        let (tls, port) = match config.security {
            Security::Tls => (Tls::Wrapper(parameters), 465),
            Security::StartTls => (Tls::Required(parameters), 587),
            Security::None => (Tls::None, 25),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.server)
            .port(config.port.unwrap_or(port))
            .tls(tls)
            .timeout(Some(ANSWER_WAIT));
        if let Some((user, password)) = config.login {
            transport = transport.credentials(Credentials::new(user, password));
        }
        Ok(Self { transport: transport.build(), from, to: to.into_iter().collect(), events: config.events })
    }

    pub(crate) fn events(&self) -> &[String] {
        &self.events
    }

    pub(crate) async fn send(&self, alert: &Alert, box_name: &str) -> Result<(), NotSent> {
        // The same each time, so that mail programs show one that came twice once.
        let id = format!("<{}@{box_name}.allerac>", alert.id);
        let mut message = Message::builder()
            .from(self.from.clone())
            .message_id(Some(id))
            .subject(format!("[{box_name}] {}", subject(alert)))
            .header(header::ContentType::TEXT_PLAIN);
        for to in self.to.iter() {
            message = message.to(to.clone());
        }
        let message = message.body(body(alert, box_name)).map_err(|error| NotSent::ever(error.to_string()))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut why = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    let source = source.to_string();
                    if !why.contains(&source) {
                        why = format!("{why}: {source}");
                    }
                }
                Err(NotSent { why, is_lasting: false })
            }
        }
    }
}
