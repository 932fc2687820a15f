use std::fs;
use std::path::{Path, PathBuf};

use allerac_alerts::{Channel, Mail, MailConfig, Security, Webhook, WebhookConfig};
use serde::Deserialize;

use super::backup::line;
use super::load::Bounded;
use crate::failure::{Exit, Failure};

/// Percentages of a limit at which somebody is told.
const PERCENTS: [u32; 3] = [50, 80, 100];
/// Free space below which somebody is told, in MiB.
const DISK_FREE_MIB: u32 = 2048;
/// The name that mail has among the channels.
const MAIL: &str = "email";
/// Kinds of alerts.
const EVENTS: [&str; 5] = ["limit.reached", "budget.reached", "backup.failed", "disk.low", "model.failed"];

/// `[alerts]`: what somebody is told of, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertsSection {
    percent: Option<Vec<Bounded<1, 100>>>,
    disk_free_mib: Option<Bounded<0, 16_777_216>>,
    webhook: Vec<WebhookSection>,
    email: Option<MailSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSection {
    name: String,
    url: String,
    secret_file: PathBuf,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailSection {
    server: String,
    port: Option<u16>,
    #[serde(default)]
    security: Protection,
    user: Option<String>,
    password_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protection {
    #[default]
    StartTls,
    Tls,
    None,
}

impl AlertsSection {
    /// Percentages at which somebody is told; none where nobody is.
    pub(crate) fn percents(&self) -> Vec<u32> {
        if self.webhook.is_empty() && self.email.is_none() {
            return Vec::new();
        }
        let given = self.percent.as_ref().map(|given| given.iter().map(|percent| percent.get()).collect());
        given.unwrap_or_else(|| PERCENTS.to_vec())
    }

    /// Free space below which somebody is told, in bytes.
    pub(crate) fn disk_free_bytes(&self) -> u64 {
        u64::from(self.disk_free_mib.map_or(DISK_FREE_MIB, Bounded::get)) << 20
    }

    /// How somebody is told, with secrets read.
    pub(crate) fn channels(&self, folder: &Path) -> Result<Vec<Channel>, Failure> {
        let mut channels = Vec::new();
        for section in &self.webhook {
            let name = &section.name;
            let is_taken = channels.iter().any(|channel: &Channel| channel.name() == name);
            if name.is_empty() || name == MAIL || is_taken {
                let message = format!("a webhook in [alerts] cannot be called `{name}`");
                return Err(Failure::new(Exit::Usage, message).hint("give each a name of its own, and not `email`"));
            }
            known(&section.events)?;
            let config = WebhookConfig {
                name: name.clone(),
                url: section.url.clone(),
                secret: line(&folder.join(&section.secret_file))?,
                events: section.events.clone(),
            };
            let webhook = Webhook::new(config).map_err(|why| mistake(&format!("the webhook {name}"), &why))?;
            channels.push(Channel::Webhook(Box::new(webhook)));
        }
        if let Some(section) = &self.email {
            known(&section.events)?;
            let mail = Mail::new(section.config(folder)?).map_err(|why| mistake("[alerts.email]", &why))?;
            channels.push(Channel::Mail(Box::new(mail)));
        }
        Ok(channels)
    }
}

impl MailSection {
    fn config(&self, folder: &Path) -> Result<MailConfig, Failure> {
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => Some((user.clone(), line(&folder.join(path))?)),
            (None, None) => None,
            _ => return Err(mistake("[alerts.email]", "user and password_file belong together")),
        };
        let read = |path: &PathBuf| {
            let path = folder.join(path);
            fs::read(&path).map_err(|error| Failure::from_io("read the certificate", &path, &error))
        };
        Ok(MailConfig {
            server: self.server.clone(),
            port: self.port,
            security: match self.security {
                Protection::StartTls => Security::StartTls,
                Protection::Tls => Security::Tls,
                Protection::None => Security::None,
            },
            login,
            from: self.from.clone(),
            to: self.to.clone(),
            certificate: self.certificate_file.as_ref().map(read).transpose()?,
            events: self.events.clone(),
        })
    }
}

fn known(events: &[String]) -> Result<(), Failure> {
    match events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
        Some(unknown) => {
            Err(mistake("[alerts]", &format!("there is no event `{unknown}`, only {}", EVENTS.join(", "))))
        }
        None => Ok(()),
    }
}

fn mistake(what: &str, why: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{what} cannot be like that: {why}"))
        .hint("correct the configuration file; see docs/alerts.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str =
        "[email]\nserver = 'localhost'\nsecurity = 'none'\nfrom = 'box@home.lan'\nto = ['Olga <o@home.lan>']\n";

    fn message(text: &str) -> String {
        let section: AlertsSection = toml::from_str(text).unwrap();
        section.channels(Path::new("/nowhere")).unwrap_err().into_parts().0
    }

    #[test]
    fn nobody_is_told_of_limits_where_nobody_is_named() {
        let section: AlertsSection = toml::from_str("percent = [90]").unwrap();
        assert_eq!(section.percents(), Vec::<u32>::new());
        let section: AlertsSection = toml::from_str(MAIL).unwrap();
        assert_eq!(section.percents(), [50, 80, 100]);
        let channels = section.channels(Path::new("")).unwrap();
        assert_eq!(channels.iter().map(Channel::name).collect::<Vec<_>>(), ["email"]);
        let section: AlertsSection = toml::from_str(&format!("percent = [90]\n{MAIL}")).unwrap();
        assert_eq!(section.percents(), [90]);
    }

    #[test]
    fn mistakes_are_named() {
        let away = message(&MAIL.replace("localhost", "smtp.example.org"));
        assert!(away.contains("without TLS mail goes to `localhost` only"), "{away}");
        assert!(message(&MAIL.replace("'box@home.lan'", "'box'")).contains("`box` is no address"));
        assert!(message(&MAIL.replace("'Olga <o@home.lan>'", "")).contains("`to` names nobody"));
        assert!(message(&format!("{MAIL}user = 'x'")).contains("belong together"));
        assert!(message(&format!("{MAIL}events = ['prompt']")).contains("there is no event `prompt`"));
        let hook = "[[webhook]]\nname = 'email'\nurl = 'http://h'\nsecret_file = 's'";
        assert!(message(hook).contains("cannot be called `email`"));
    }
}
